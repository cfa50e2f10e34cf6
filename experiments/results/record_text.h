// Trial records and run headers as one line of JSON, for the journal.
#pragma once

#include <string>

#include "experiments/results/results_file.h"

namespace hyperattn {

[[nodiscard]] std::string encode_record(const TrialRecord& record);
/// Error(input) naming `place` if the text is not a record.
[[nodiscard]] TrialRecord decode_record(const std::string& text, const std::string& place);

/// Everything of a results file but its trials.
[[nodiscard]] std::string encode_header(const ResultsFile& results);
[[nodiscard]] ResultsFile decode_header(const std::string& text, const std::string& place);

}  // namespace hyperattn
