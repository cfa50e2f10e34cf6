// The program `hyperattn`.
#pragma once

namespace hyperattn {

/// Runs the command that the arguments name and returns the process's exit code: 0 done; 1 the environment
/// failed; 2 the call or the configuration is wrong; 3 an input file is wrong; 4 some trials failed; 130
/// interrupted. Messages go to standard error, answers to standard output.
int run_command_line(int argc, char** argv);

}  // namespace hyperattn
