# scripts/setup installs what cannot come from Debian into a cache folder and writes its places to
# env.cmake there: SECATEUR_TORCH_ROOT, SECATEUR_NVIDIA_LIB_DIRS, SECATEUR_PROTO_PATH, SECATEUR_CARGO.
if(DEFINED ENV{SECATEUR_CACHE})
  set(default_cache $ENV{SECATEUR_CACHE})
elseif(DEFINED ENV{XDG_CACHE_HOME})
  set(default_cache $ENV{XDG_CACHE_HOME}/secateur)
else()
  set(default_cache $ENV{HOME}/.cache/secateur)
endif()
set(SECATEUR_CACHE ${default_cache} CACHE PATH "Where scripts/setup keeps what it installed")
if(NOT EXISTS ${SECATEUR_CACHE}/env.cmake)
  message(FATAL_ERROR "${SECATEUR_CACHE}/env.cmake is missing: run scripts/setup first")
endif()
include(${SECATEUR_CACHE}/env.cmake)

find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(ZLIB REQUIRED)
find_package(CURL REQUIRED)
find_package(Protobuf REQUIRED)
find_package(absl REQUIRED)
find_package(gRPC REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(prometheus-cpp REQUIRED)
if(SECATEUR_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()

# libtorch as it comes in the wheel: C++ headers and libraries, no Python.
add_library(secateur_torch INTERFACE)
add_library(secateur::torch ALIAS secateur_torch)
set(torch_lib ${SECATEUR_TORCH_ROOT}/lib)
target_include_directories(secateur_torch SYSTEM INTERFACE
  ${SECATEUR_TORCH_ROOT}/include ${SECATEUR_TORCH_ROOT}/include/torch/csrc/api/include)
target_link_libraries(secateur_torch INTERFACE ${torch_lib}/libtorch_cpu.so ${torch_lib}/libc10.so)
set(torch_rpath ${torch_lib} ${SECATEUR_NVIDIA_LIB_DIRS})
# Nothing refers to libtorch_cuda by symbol: it registers its kernels when it is loaded, which server/model/torch_device.cc
# does when a GPU is wanted. Were it linked, its thread-local storage would not fit into the stacks of small threads.
if(SECATEUR_CUDA AND NOT EXISTS ${SECATEUR_TORCH_ROOT}/../nvidia/cudnn)
  message(FATAL_ERROR "SECATEUR_CUDA is ON and NVIDIA's libraries are missing: run scripts/setup --cuda first")
endif()
foreach(folder ${torch_rpath})
  target_link_options(secateur_torch INTERFACE -Wl,-rpath,${folder} -Wl,-rpath-link,${folder})
endforeach()

# Arrow as it comes in the pyarrow wheel, for object storage. GCS and Azure are in libarrow itself. Its headers are
# beside much else, and its libraries bring copies of their own of what others use: link them after all of that.
add_library(secateur_arrow INTERFACE)
add_library(secateur::arrow ALIAS secateur_arrow)
target_include_directories(secateur_arrow SYSTEM INTERFACE ${SECATEUR_ARROW_ROOT}/include)
target_link_libraries(secateur_arrow INTERFACE
  ${SECATEUR_ARROW_ROOT}/libarrow_s3.so.2600 ${SECATEUR_ARROW_ROOT}/libarrow.so.2600)
target_link_options(secateur_arrow INTERFACE -Wl,-rpath,${SECATEUR_ARROW_ROOT} -Wl,-rpath-link,${SECATEUR_ARROW_ROOT})
