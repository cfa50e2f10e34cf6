// Token ids from a file: decimal text, JSON or a numpy array.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hyperattn {

/// The ids that the bytes of a file hold, whatever its name: an array of integers as numpy.save writes it
/// (one-dimensional, or with one dimension that is not 1); JSON, a list of integers, a list that holds one
/// such list, or an object whose `input_ids` or `ids` is one; else decimal numbers between white space or
/// commas. `path` is for messages. Error(input) that names the place of what is no id, of an id outside
/// [0, vocab_size), or what the file is instead; or where there are no ids.
[[nodiscard]] std::vector<int32_t> parse_token_ids(const std::string& bytes, const std::string& path,
                                                   int64_t vocab_size);

}  // namespace hyperattn
