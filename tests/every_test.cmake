# Every test runs and lies where it is looked for. Included after all test programs are added.

# C++: a source with test cases is called *_test.cpp, only such a source is, each belongs to a program, and its folder
# is one of the sources' (but for the corpus of the fuzzers, which tests readers of all folders).
file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *.cpp)
list(FILTER sources EXCLUDE REGEX "^package/")
get_property(built GLOBAL PROPERTY hyperattn_test_sources)
foreach(source IN LISTS sources)
  file(STRINGS ${source} cases REGEX "^ *(TEMPLATE_)?TEST_CASE" LIMIT_COUNT 1)
  if(cases AND NOT source MATCHES "_test\\.cpp$")
    message(FATAL_ERROR "tests/${source} has test cases, so its name must end in _test.cpp")
  elseif(NOT cases AND source MATCHES "_test\\.cpp$")
    message(FATAL_ERROR "tests/${source} has no test case, so its name must not end in _test.cpp")
  elseif(NOT cases)
    continue()
  endif()
  if(NOT ${CMAKE_CURRENT_SOURCE_DIR}/${source} IN_LIST built)
    message(FATAL_ERROR "tests/${source} is in no test program (hyperattn_test_program in tests/CMakeLists.txt)")
  endif()
  get_filename_component(folder ${source} DIRECTORY)
  if(NOT folder STREQUAL "fuzz" AND NOT IS_DIRECTORY ${PROJECT_SOURCE_DIR}/${folder})
    message(FATAL_ERROR "tests/${source} mirrors no folder of the sources: there is no ${folder}")
  endif()
endforeach()

# Python: a file with test methods is called test_*.py, and its folder is one of hyperattn_python_tests.
# with_transformers.py needs transformers; scripts/test_transformers.sh runs it.
file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *.py)
list(REMOVE_ITEM sources python/with_transformers.py)
if(NOT HYPERATTN_PYTHON)
  list(FILTER sources EXCLUDE REGEX "^python/")
endif()
foreach(source IN LISTS sources)
  file(STRINGS ${source} cases REGEX "^ +def test" LIMIT_COUNT 1)
  if(cases AND NOT ${CMAKE_CURRENT_SOURCE_DIR}/${source} IN_LIST built)
    message(FATAL_ERROR "tests/${source} has tests, so it must be test_*.py in a folder of hyperattn_python_tests")
  endif()
endforeach()
