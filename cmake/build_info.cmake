# Writes the header with the commit that is being built; run at every build, touches the file only when the
# commit changes. Needs SOURCE_DIR, INPUT, OUTPUT. Without git, or outside a checkout of this very project
# (a tarball), the commit is "unknown".
set(HYPERATTN_COMMIT "unknown")
find_program(GIT_EXECUTABLE git)
if(GIT_EXECUTABLE AND EXISTS "${SOURCE_DIR}/.git")
  execute_process(COMMAND "${GIT_EXECUTABLE}" -C "${SOURCE_DIR}" rev-parse --short=12 HEAD
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    execute_process(COMMAND "${GIT_EXECUTABLE}" -C "${SOURCE_DIR}" status --porcelain --untracked-files=no
      OUTPUT_VARIABLE changes ERROR_QUIET)
    set(HYPERATTN_COMMIT "${commit}")
    if(changes)
      string(APPEND HYPERATTN_COMMIT " with local changes")
    endif()
  endif()
endif()
configure_file("${INPUT}" "${OUTPUT}" @ONLY)
