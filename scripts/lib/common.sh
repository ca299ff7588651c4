# Shared by the scripts: source it, do not run it. Sets `root` (the checkout) and SECATEUR_CACHE (what was
# installed outside of it), and points ccache there, so that every checkout on a machine shares its results.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export SECATEUR_CACHE=${SECATEUR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/secateur}
export CCACHE_DIR=${CCACHE_DIR:-$SECATEUR_CACHE/ccache}
# Paths below the checkout count as relative, and the build folder's own path does not count.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1
export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-10G}

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
