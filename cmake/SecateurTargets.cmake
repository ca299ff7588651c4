# One folder is one target: secateur_library(mask SOURCES ... DEPS secateur::base) makes
# secateur_mask with the alias secateur::mask. DEPS are PUBLIC: what a folder's headers include.
# PRIVATE_DEPS appear in its sources only.

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD)
  # Without separate code mold 1.10 may begin what is made read-only before its page: such a program does not start.
  add_link_options(-fuse-ld=mold -Wl,-z,separate-code)
endif()

add_library(secateur_options INTERFACE)
# Designated initializers leave members to their defaults: that is what they are for.
target_compile_options(secateur_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Werror
                       -Wno-missing-field-initializers)
target_include_directories(secateur_options INTERFACE ${CMAKE_SOURCE_DIR})
if(SECATEUR_SANITIZE)
  # Instrumented variants and regular expressions of the standard library look uninitialised to GCC (its bug 105562).
  target_compile_options(secateur_options INTERFACE -fsanitize=${SECATEUR_SANITIZE} -fno-omit-frame-pointer
                         -Wno-maybe-uninitialized)
  target_link_options(secateur_options INTERFACE -fsanitize=${SECATEUR_SANITIZE})
endif()

function(secateur_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(secateur_${name} STATIC ${ARG_SOURCES})
    target_link_libraries(secateur_${name} PUBLIC ${ARG_DEPS}
                          PRIVATE ${ARG_PRIVATE_DEPS} secateur_options)
    target_include_directories(secateur_${name} PUBLIC ${CMAKE_SOURCE_DIR})
  else()
    add_library(secateur_${name} INTERFACE)
    target_link_libraries(secateur_${name} INTERFACE ${ARG_DEPS})
    target_include_directories(secateur_${name} INTERFACE ${CMAKE_SOURCE_DIR})
  endif()
  add_library(secateur::${name} ALIAS secateur_${name})
endfunction()

function(secateur_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} secateur_options)
endfunction()

# A GoogleTest program; each of its tests is one ctest entry. LABELLED lists label=filter: tests that match the
# filter carry the label, for ctest -L.
function(secateur_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LABELLED" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main secateur_options)
  set(rest "")
  foreach(labelled ${ARG_LABELLED})
    string(REGEX MATCH "^([a-z]+)=(.+)$" matched "${labelled}")
    gtest_discover_tests(${name} NO_PRETTY_VALUES DISCOVERY_TIMEOUT 60 TEST_FILTER "${CMAKE_MATCH_2}"
                         PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS ${CMAKE_MATCH_1})
    string(APPEND rest ":${CMAKE_MATCH_2}")
  endforeach()
  string(REGEX REPLACE "^:" "-" rest "${rest}")
  if(NOT rest STREQUAL "-*")
    gtest_discover_tests(${name} NO_PRETTY_VALUES DISCOVERY_TIMEOUT 60 TEST_FILTER "${rest}" PROPERTIES TIMEOUT ${ARG_TIMEOUT})
  endif()
endfunction()
