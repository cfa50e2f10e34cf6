# What `cmake --install` puts where, and the package that find_package(hyperattn) finds there:
#   bin/hyperattn   lib/libhyperattn_*.a   include/hyperattn/{core,algorithms,experiments}   lib/cmake/hyperattn
#   share/hyperattn/{configs,experiments/data}: the shipped configurations and the data that they name
#   share/hyperattn/scripts: the loader of results, the plots and the report; bin/hyperattn-plot calls them
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# One object file, built with the tests, for each header that no source of its own includes first. The other headers are
# held to stand alone by their sources, wherever nothing is precompiled (ccache, scripts/common.sh).
if(BUILD_TESTING AND NOT HYPERATTN_SANITIZE)
  set(CMAKE_VERIFY_INTERFACE_HEADER_SETS ON)
endif()

# The headers among `headers` that the source of the same name does not include first.
function(hyperattn_headers_without_source headers result)
  set(without)
  foreach(header IN LISTS headers)
    string(REGEX REPLACE "\\.h$" ".cpp" source ${header})
    file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${header})
    set(first)
    if(EXISTS ${source})
      file(STRINGS ${source} first LIMIT_COUNT 1 REGEX "^#include")
    endif()
    if(NOT first STREQUAL "#include \"${name}\"")
      list(APPEND without ${header})
    endif()
  endforeach()
  set(${result} ${without} PARENT_SCOPE)
endfunction()

# hyperattn_install_library(NAME FOLDER [EXCEPT FOLDER…]): the library hyperattn_NAME as hyperattn::NAME, with the headers
# below its folder, but for those in the folders below it that are libraries of their own.
function(hyperattn_install_library name folder)
  cmake_parse_arguments(arg "" "" EXCEPT ${ARGN})
  set(library hyperattn_${name})
  add_library(hyperattn::${name} ALIAS ${library})
  set_property(GLOBAL APPEND PROPERTY hyperattn_components ${name})
  set_target_properties(${library} PROPERTIES EXPORT_NAME ${name})
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.h)
  list(FILTER headers EXCLUDE REGEX "/benchmarks/|_internal\\.h$|/core/eigen\\.h$")
  foreach(other IN LISTS arg_EXCEPT)
    list(FILTER headers EXCLUDE REGEX "/${folder}/${other}/")
  endforeach()
  target_compile_features(${library} PUBLIC cxx_std_20)
  hyperattn_headers_without_source("${headers}" alone)
  list(REMOVE_ITEM headers ${alone})
  target_sources(${library} PUBLIC
    FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${headers}
    FILE_SET headers_without_source TYPE HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${alone})
  set_target_properties(${library} PROPERTIES INTERFACE_HEADER_SETS_TO_VERIFY headers_without_source)
  install(TARGETS ${library} EXPORT hyperattn-targets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/hyperattn
    FILE_SET headers_without_source DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/hyperattn)
endfunction()

# What draws results. Comparisons with other programs stay in the checkout: they need these programs.
function(hyperattn_install_scripts)
  set(scripts ${CMAKE_INSTALL_DATADIR}/hyperattn/scripts)
  install(DIRECTORY scripts/ DESTINATION ${scripts} USE_SOURCE_PERMISSIONS
    FILES_MATCHING PATTERN "hyperattn_*.py" PATTERN "plot_*.py" PATTERN "report.py" PATTERN "python.sh" PATTERN "common.sh"
    PATTERN "hyperattn_plots/*" PATTERN "page/*" PATTERN "__pycache__" EXCLUDE PATTERN "slurm" EXCLUDE)
  file(RELATIVE_PATH HYPERATTN_BIN_TO_SCRIPTS /prefix/${CMAKE_INSTALL_BINDIR} /prefix/${scripts})
  configure_file(cmake/hyperattn-plot.in generated/hyperattn-plot @ONLY)
  install(PROGRAMS ${PROJECT_BINARY_DIR}/generated/hyperattn-plot DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

function(hyperattn_install_package)
  if(HYPERATTN_PROGRAM)
    install(TARGETS hyperattn RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
    install(DIRECTORY configs DESTINATION ${CMAKE_INSTALL_DATADIR}/hyperattn)
    install(DIRECTORY experiments/data DESTINATION ${CMAKE_INSTALL_DATADIR}/hyperattn/experiments)
    hyperattn_install_scripts()
  endif()
  set(package ${CMAKE_INSTALL_LIBDIR}/cmake/hyperattn)
  install(EXPORT hyperattn-targets NAMESPACE hyperattn:: DESTINATION ${package})
  get_property(HYPERATTN_COMPONENTS GLOBAL PROPERTY hyperattn_components)
  configure_package_config_file(cmake/hyperattn-config.cmake.in generated/hyperattn-config.cmake
    INSTALL_DESTINATION ${package})
  # Before 1.0 a minor version may change anything.
  write_basic_package_version_file(generated/hyperattn-config-version.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/generated/hyperattn-config.cmake
    ${PROJECT_BINARY_DIR}/generated/hyperattn-config-version.cmake DESTINATION ${package})
endfunction()
