# HYPERATTN_CUDA: whether the engine `cuda` is built. Its kernels are compiled for sm_90a, and as PTX for every GPU from
# compute capability 8.0 on, which the driver compiles when the program starts. (CUDA_FORCE_PTX_JIT=1 in the environment
# runs that general code on an H100, too.) The CUDA runtime is linked statically, so that the program starts on machines
# without a driver, where the engine says why it cannot run. Sets hyperattn_cuda to whether it is built.
set(HYPERATTN_CUDA AUTO CACHE STRING "Build the engine cuda: AUTO (where a CUDA compiler is found), ON or OFF")
set_property(CACHE HYPERATTN_CUDA PROPERTY STRINGS AUTO ON OFF)

set(hyperattn_cuda OFF)
set(hyperattn_cuda_missing "HYPERATTN_CUDA is OFF")
if(HYPERATTN_CUDA STREQUAL "AUTO" AND HYPERATTN_SANITIZE)
  set(hyperattn_cuda_missing "the sanitizers know nothing of it")
elseif(HYPERATTN_CUDA)
  # Not check_language(CUDA): it says NOTFOUND for a compiler that it has no name for.
  find_program(HYPERATTN_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_PATH PATHS /usr/local/cuda/bin PATH_SUFFIXES bin)
  if(HYPERATTN_NVCC)
    set(CMAKE_CUDA_COMPILER ${HYPERATTN_NVCC})
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80-virtual)  # of CMake's own trials
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(hyperattn_cuda ON)
    message(STATUS "Engine cuda: built with CUDA ${CUDAToolkit_VERSION} for sm_90a and compute_80")
  elseif(HYPERATTN_CUDA STREQUAL "AUTO")
    set(hyperattn_cuda_missing "there is no nvcc")
  else()
    message(FATAL_ERROR "HYPERATTN_CUDA is ${HYPERATTN_CUDA}, but there is no nvcc on PATH, in CUDACXX, CUDA_PATH or /usr/local/cuda")
  endif()
endif()
if(NOT hyperattn_cuda)
  message(STATUS "Engine cuda: left out, since ${hyperattn_cuda_missing}")
endif()

# hyperattn_add_cuda_engine(LIBRARY FOLDER): adds the engine's kernels in FOLDER to the library, and its host sources; or the
# one source that says that they are absent.
function(hyperattn_add_cuda_engine library folder)
  file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.cpp)
  set(always ${folder}/cuda.cpp ${folder}/device_attention.cpp ${folder}/flat_plan.cpp)
  set(absent ${folder}/absent.cpp)
  list(REMOVE_ITEM sources ${always} ${absent})
  target_sources(${library} PRIVATE ${always})
  if(NOT hyperattn_cuda)
    target_sources(${library} PRIVATE ${absent})
    return()
  endif()
  file(GLOB kernels CONFIGURE_DEPENDS ${folder}/*.cu)
  add_library(hyperattn_cuda_kernels OBJECT ${kernels})
  set_target_properties(hyperattn_cuda_kernels PROPERTIES
    CUDA_ARCHITECTURES OFF CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON)  # the most that CMake 3.25 knows of
  target_include_directories(hyperattn_cuda_kernels PRIVATE ${PROJECT_SOURCE_DIR})
  target_include_directories(hyperattn_cuda_kernels SYSTEM PRIVATE ${RANDOM123_INCLUDE_DIR})
  target_compile_options(hyperattn_cuda_kernels PRIVATE
    -gencode=arch=compute_90a,code=sm_90a -gencode=arch=compute_80,code=compute_80
    -Xcompiler=-Wall,-Wextra $<$<BOOL:${HYPERATTN_WARNINGS_AS_ERRORS}>:-Werror=all-warnings>)
  # Plans must be the same bits as on the host, which fuses nothing but what its kernels say.
  set_source_files_properties(${folder}/planning.cu ${folder}/draw.cu PROPERTIES COMPILE_OPTIONS -fmad=false)
  target_sources(${library} PRIVATE ${sources} $<TARGET_OBJECTS:hyperattn_cuda_kernels>)
  target_link_libraries(${library} PRIVATE CUDA::cudart_static)
endfunction()
