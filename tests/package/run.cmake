# Installs BUILD into an empty folder, builds the program of this folder against what lies there, and runs both programs.
# Needs BUILD, WORK, CXX, C, GENERATOR, BUILD_TYPE, VERSION, NM.
include(${CMAKE_CURRENT_LIST_DIR}/run_and_expect.cmake)

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${WORK}/build -G ${GENERATOR} -DCMAKE_BUILD_TYPE=${BUILD_TYPE}
  -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_C_COMPILER=${C} -DCMAKE_PREFIX_PATH=${WORK}/prefix)
run(${CMAKE_COMMAND} --build ${WORK}/build)

# The error falls with the sample, and is rounding where all keys are sampled.
foreach(program example example_native)
  run(${WORK}/build/${program})
  expect("sample_size   64: relative error ([0-9.]+)\nsample_size  256: relative error ([0-9.]+)\nsample_size 1024: relative error [0-9.]+e-0[67]\n")
  if(NOT CMAKE_MATCH_1 GREATER CMAKE_MATCH_2)
    message(FATAL_ERROR "the error does not fall with the sample:\n${output}")
  endif()
endforeach()

# So does the example for arrays of a program's own: the first row of a causal problem sees the first key alone.
get_filename_component(examples ${CMAKE_CURRENT_LIST_DIR}/../../examples ABSOLUTE)
run(${CMAKE_COMMAND} -S ${examples}/own_tensors -B ${WORK}/own_tensors -G ${GENERATOR} -DCMAKE_BUILD_TYPE=${BUILD_TYPE}
  -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_C_COMPILER=${C} -DCMAKE_PREFIX_PATH=${WORK}/prefix)
run(${CMAKE_COMMAND} --build ${WORK}/own_tensors)
run(${WORK}/own_tensors/own_tensors)
expect("384000 numbers; first rows differ from the first values by at most (0|[0-9.]+e-0[78])\n")

# A program that has an Eigen of its own gets right results, and none of its functions are taken for the library's.
run(${WORK}/build/own_eigen)
file(GLOB_RECURSE libraries ${WORK}/prefix/*.a)
run(${NM} ${libraries})
if(output MATCHES "[^\n]*5Eigen[^\n]*")  # a mangled name with the namespace Eigen
  message(FATAL_ERROR "the libraries have functions that a program's own Eigen has, too, such as:\n${CMAKE_MATCH_0}")
endif()

# Results become pictures and a page without the checkout.
file(WRITE ${WORK}/small.yaml "inputs: {source: gaussian, head_dim: 8}\nsweep: {seq_len: [64, 128]}\n"
  "backends: [exact, {name: hyper, block_size: 16, sample_size: 16}]\n")
run(${WORK}/prefix/bin/hyperattn run ${WORK}/small.yaml -o ${WORK}/small.h5)
run(${WORK}/prefix/bin/hyperattn-plot error ${WORK}/small.h5 -o ${WORK}/pictures)
expect("error_vs_seq_len.png")
run(${WORK}/prefix/bin/hyperattn-plot report ${WORK}/small.h5 -o ${WORK}/small.html)
if(NOT EXISTS ${WORK}/pictures/error_vs_seq_len.svg OR NOT EXISTS ${WORK}/small.html)
  message(FATAL_ERROR "the installed plots drew nothing into ${WORK}")
endif()

run(${WORK}/prefix/bin/hyperattn --version)
expect("hyperattn ${VERSION}")
# The shipped configurations name their data from the folder that holds both.
execute_process(COMMAND ${WORK}/prefix/bin/hyperattn run configs/quickstart.yaml --dry-run
  WORKING_DIRECTORY ${WORK}/prefix/share/hyperattn
  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "the shipped quickstart cannot be run from the installed folder (${status}):\n${output}")
endif()
