#!/bin/bash
# Builds the Dockerfile as written and runs the image as the chart does, with buildah in place of a container engine:
# steps run in a chroot, and debootstrap makes the base image. As root, on Debian 12; downloads and compiles everything,
# which takes a quarter of an hour on two processors and 20 GB below $TMPDIR (/var/tmp).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/common.sh"

for tool in buildah debootstrap; do
  command -v $tool >/dev/null || die "this needs scripts/setup --image"
done
[[ $(id -u) == 0 ]] || die "this needs root, for debootstrap"
model=${SECATEUR_SMOLLM2:?set it to the folder of the base model that scripts/setup made}

work=$(mktemp -d "${TMPDIR:-/var/tmp}/secateur-image.XXXXXX")
# Cache and model are mounted below it while steps run, where only they see it: never remove through a mount.
remove_work() { grep -q " $work" /proc/self/mounts || rm -rf "$work"; }
trap remove_work EXIT
mkdir "$work/tmp"
image_tool() { TMPDIR=$work/tmp buildah --root "$work/root" --runroot "$work/run" --storage-driver vfs "$@"; }

say "making the base image"
# Mirror, package sources and certificates of this machine, where others than Debian's are in force.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Created-By: Packages' | head -1)
debootstrap --variant=minbase --include=ca-certificates bookworm "$work/base" ${mirror:+"$mirror"} >"$work/debootstrap.log" ||
  { tail -20 "$work/debootstrap.log" >&2; die "debootstrap failed"; }
if [[ -e /etc/apt/sources.list.d/debian.sources ]]; then
  rm "$work/base/etc/apt/sources.list"
  cp /etc/apt/sources.list.d/debian.sources "$work/base/etc/apt/sources.list.d/"
fi
cp -r /usr/local/share/ca-certificates/. "$work/base/usr/local/share/ca-certificates/"
chroot "$work/base" update-ca-certificates >/dev/null
tar -C "$work/base" --exclude='./dev/*' -cf "$work/base.tar" .
rm -rf "$work/base"
container=$(image_tool from scratch)
image_tool add --quiet "$container" "$work/base.tar" / >/dev/null
image_tool commit --quiet --rm "$container" secateur-base >/dev/null
rm "$work/base.tar"

say "building the image"
# The compiler cache of this machine instead of an empty one.
mkdir -p "$CCACHE_DIR"
image_tool bud --isolation chroot --network host --pull=never --build-arg DEBIAN=localhost/secateur-base \
  --volume "$CCACHE_DIR:/root/.cache/secateur/ccache" --tag secateur-test "$root"

say "running it as user 10001"
container=$(image_tool from --pull=never localhost/secateur-test)
config=$(image_tool inspect --format '{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}}' "$container")
[[ $config == "10001:10001 [secateurd]" ]] || die "user and program of the image are $config"
install -d -o 10001 -g 10001 "$work/store"
image_tool run --isolation chroot --network host --user 10001:10001 \
  --volume "$model:/models/smollm2:ro" --volume "$work/store:/var/lib/secateur" "$container" -- bash -c '
    set -euo pipefail
    [[ $(id -u) == 10001 ]]
    if ldd /usr/local/bin/* /usr/local/lib/secateur/* | grep "not found"; then exit 1; fi
    secateurd --version
    log=$(mktemp)
    secateurd --model smollm2=/models/smollm2 --store file:/var/lib/secateur --threads 1 \
      --listen 127.0.0.1:0 --metrics 127.0.0.1:0 2>"$log" &
    for ((i = 0; i < 120; i++)); do
      if grep "\"serving\"" "$log"; then break; fi
      sleep 1
    done
    port=$(sed -n "s/.*\"listening\".*\"port\":\([0-9]*\).*/\1/p" "$log")
    export SECATEUR_SERVER=127.0.0.1:$port
    secateur model list
    echo "{\"text\": \"Cut above the bud.\"}" >/tmp/corpus.jsonl
    secateur corpus upload --label language=en /tmp/corpus.jsonl
    kill -TERM %1
    wait %1
    grep "\"stopped\"" "$log"' || die "the image does not run"
[[ $(find "$work/store/tenants/default/corpora" -type f -uid 10001) ]] || die "the server kept nothing in its store"
say "the image is built and runs; it has $(du -sh --apparent-size "$(image_tool mount "$container")" | cut -f1)"
