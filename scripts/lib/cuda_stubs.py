#!/usr/bin/python3
"""Makes stand-ins for the CUDA libraries that Python's torch links to but a CPU never calls.

    cuda_stubs.py TORCH_LIB_FOLDER NVIDIA_LIB_FOLDER

`import torch` loads libtorch_cuda.so, which asks for eleven libraries (some 4 GB of packages). The tests
compute on the CPU, so this writes into NVIDIA_LIB_FOLDER one tiny library for each that is missing there.
Every function in them ends the program with a message. Needs nm and gcc.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

SYSTEM = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1",
          "libstdc++.so.6", "ld-linux-x86-64.so.2", "libcuda.so.1"}
# Loaded on demand by CUDA code only, and the driver's own interface.
NOT_LOADED = {"libcaffe2_nvrtc.so", "libtorch_cuda_linalg.so"}
VERSIONED = re.compile(r"^(lib\S+\.so\.\d+|NVSHMEM)$")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def names(library, which):
    """Dynamic symbols as (name, version) pairs."""
    for line in run("nm", "-D", which, str(library)).splitlines():
        name, _, version = line.split()[-1].partition("@")
        yield name, version.lstrip("@")


def wanted(libraries):
    sonames = set()
    for library in libraries:
        sonames |= set(re.findall(r"NEEDED\s+(\S+)", run("objdump", "-p", str(library))))
    return sonames


def main(torch_lib, nvidia_lib):
    libraries = [p for p in sorted(torch_lib.glob("*.so")) if p.name not in NOT_LOADED]
    present = {p.name for p in [*torch_lib.iterdir(), *nvidia_lib.iterdir()]}
    missing = sorted(wanted(libraries) - present - SYSTEM)
    if not missing:
        return
    defined = {name for p in [*libraries, *nvidia_lib.glob("*.so*")]
               for name, _ in names(p, "--defined-only")}
    prefixes = ("cu", "nccl", "nvshmem", "nvrtc")
    undefined = sorted({name for p in libraries for name, version in names(p, "--undefined-only")
                        if name not in defined
                        and (VERSIONED.match(version) or (not version and name.startswith(prefixes)))})
    source = ['#include <stdio.h>', '#include <stdlib.h>',
              'void secateur_no_cuda(void) {',
              '  fputs("this Python environment has no CUDA libraries: compute on the CPU\\n", stderr);',
              '  abort();', '}']
    source += [f'void {name}(void) __attribute__((alias("secateur_no_cuda")));' for name in undefined]
    with tempfile.TemporaryDirectory() as folder:
        functions, empty = pathlib.Path(folder, "functions.c"), pathlib.Path(folder, "empty.c")
        functions.write_text("\n".join(source) + "\n")
        empty.write_text("")
        for index, soname in enumerate(missing):
            code = functions if index == 0 else empty  # one of them holds all names: a process has one scope
            run("gcc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{soname}", "-o", str(nvidia_lib / soname), str(code))
    print(f"    stand-ins for {len(missing)} CUDA libraries ({len(undefined)} functions)")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
