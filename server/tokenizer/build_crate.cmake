# Builds the crate once for all build folders:
#   cmake -DCARGO=... -DMANIFEST=... -DTARGET_DIR=... -DLIBRARY=... -DLINK=... -P build_crate.cmake
# LIBRARY carries the digest of all that it is made of, so one that is there is the right one (cargo
# itself would build again for a checkout at another path). LINK is what a build folder sees of it.
file(MAKE_DIRECTORY ${TARGET_DIR})
file(LOCK ${TARGET_DIR}/build.lock GUARD PROCESS TIMEOUT 1800)
if(NOT EXISTS ${LIBRARY})
  # A compiler next to cargo belongs to it; another one that is first on PATH may not.
  get_filename_component(toolchain ${CARGO} DIRECTORY)
  if(EXISTS ${toolchain}/rustc)
    set(ENV{RUSTC} ${toolchain}/rustc)
  endif()
  execute_process(
    COMMAND ${CARGO} build --release --locked --manifest-path ${MANIFEST} --target-dir ${TARGET_DIR}
    RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "cargo could not build ${MANIFEST}: ${result}")
  endif()
  # A rename, so that a library under its final name is complete.
  file(COPY_FILE ${TARGET_DIR}/release/libsecateur_tokenizer.a ${LIBRARY}.new)
  file(RENAME ${LIBRARY}.new ${LIBRARY})
endif()
file(CREATE_LINK ${LIBRARY} ${LINK} SYMBOLIC)
