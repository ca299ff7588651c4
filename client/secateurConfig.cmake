# find_package(secateur) for users of the installed client library: target secateur::client, C++20.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
find_dependency(OpenSSL)
find_dependency(Protobuf)
find_dependency(absl)
find_dependency(gRPC)
include(${CMAKE_CURRENT_LIST_DIR}/secateurTargets.cmake)
