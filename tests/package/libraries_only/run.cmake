# The libraries without the program and without what only that needs, which is declared absent throughout: the project is
# configured and its first library built; a program that measures is built on the components of an installation that has
# them all (run.cmake one folder up leaves it). Needs SOURCE, WORK, CXX, C, GENERATOR.
include(${CMAKE_CURRENT_LIST_DIR}/../run_and_expect.cmake)

set(without)
foreach(package HDF5 yaml-cpp spdlog fmt nlohmann_json CLI11 benchmark Catch2)
  list(APPEND without -DCMAKE_DISABLE_FIND_PACKAGE_${package}=ON)
endforeach()
set(options -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_C_COMPILER=${C} -DCMAKE_BUILD_TYPE=Debug ${without})

set(here ${WORK}/libraries_only)
file(REMOVE_RECURSE ${here})
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${here}/libraries ${options} -DHYPERATTN_PROGRAM=OFF)
run(${CMAKE_COMMAND} --build ${here}/libraries --target hyperattn_core)
run(${CMAKE_COMMAND} --build ${here}/libraries --target help)
expect("hyperattn_measures")
if(output MATCHES "hyperattn_(files|experiments|bench)|test_")
  message(FATAL_ERROR "there is '${CMAKE_MATCH_0}' without the program:\n${output}")
endif()

run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${here}/build ${options} -DCOMPONENT=measures
  -DCMAKE_PREFIX_PATH=${WORK}/prefix)
run(${CMAKE_COMMAND} --build ${here}/build)
run(${here}/build/measuring)
expect("sample_size  16: epsilon 0\\.[0-9]+\nsample_size 256: epsilon [0-9.]+e-0[678]\n")

execute_process(COMMAND ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${here}/refused ${options}
  -DCOMPONENT=pictures -DCMAKE_PREFIX_PATH=${WORK}/prefix
  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
string(REGEX REPLACE "[ \n]+" " " output "${output}")
if(status EQUAL 0)
  message(FATAL_ERROR "find_package found a component that is not installed:\n${output}")
endif()
expect("hyperattn has no component 'pictures' here; installed are: core;algorithms;measures;files;experiments")
