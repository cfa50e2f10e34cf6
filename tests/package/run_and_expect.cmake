# Shared by the tests of the package.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  set(output "${output}" PARENT_SCOPE)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "'${ARGN}' failed (${status}):\n${output}")
  endif()
endfunction()

macro(expect regex)  # leaves its groups in CMAKE_MATCH_1, ...
  if(NOT output MATCHES "${regex}")
    message(FATAL_ERROR "expected '${regex}', but got:\n${output}")
  endif()
endmacro()
