// JSON files from elsewhere, read with the checks that untrusted input needs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

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

/// The value as JSON text, cut to a length that suits a message.
[[nodiscard]] std::string excerpt(const nlohmann::json& value);

}  // namespace hyperattn
