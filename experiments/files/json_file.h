// JSON: files from elsewhere, read with the checks that untrusted input needs, and text, read and written in
// the one source that pays for the parser and the writer.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace hyperattn {

/// Throws Error(input) unless the path is a file that can be read to its end (no folder, pipe or device);
/// notes that it is read (read_log.h).
void require_regular_file(const std::string& path, bool has_digest = true);

/// The bytes of a regular file. Throws Error(input) if it cannot be read, Error(environment) if it does not
/// fit into memory.
[[nodiscard]] std::string read_whole_file(const std::string& path, bool has_digest = true);

/// A JSON object. Throws Error(input) that names `what` for text that is not JSON, that is not an object, or
/// whose outermost object has a key twice.
[[nodiscard]] nlohmann::json parse_json_object(const std::string& text, const std::string& what);

/// The same for a file.
[[nodiscard]] nlohmann::json read_json_object(const std::string& path);

/// Any JSON. Throws nlohmann::json::exception for text that is none.
[[nodiscard]] nlohmann::json parse_json(std::string_view text);

/// The value as one line of JSON. Bytes that are not UTF-8 are replaced, never refused: text may quote
/// anything.
[[nodiscard]] std::string json_line(const nlohmann::json& value);
/// The same of a text: in double quotes, with escapes.
[[nodiscard]] std::string json_quoted(const std::string& text);

/// The value as JSON text, cut to a length that suits a message.
[[nodiscard]] std::string excerpt(const nlohmann::json& value);

}  // namespace hyperattn
