// YAML text as a plain tree that remembers where every value came from, so that a message can say
// "file.yaml:12". yaml-cpp parses; its own node type is not used because it hides duplicate keys and copies
// by reference.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace hyperattn {

/// What a value was written in. A later one goes before an earlier one where two set the same parameter.
enum class Layer { file, group, command_line };

/// Where a value was written.
struct Origin {
  Layer layer = Layer::file;
  int line = 0;           ///< from 1; of the file
  std::string_view text;  ///< command line: the argument it came in, which outlives the tree
};

struct YamlField;

struct YamlNode {
  enum class Kind { null, scalar, list, map };

  Kind kind = Kind::null;
  std::string text;     ///< scalar; of null "null" where it was written, empty where there is nothing
  bool quoted = false;  ///< scalar: never a number or a truth value
  std::vector<YamlNode> items;
  std::vector<YamlField> fields;  ///< in the order of the text; keys are distinct
  Origin origin;

  [[nodiscard]] bool is_scalar() const { return kind == Kind::scalar; }
  [[nodiscard]] bool is_list() const { return kind == Kind::list; }
  [[nodiscard]] bool is_map() const { return kind == Kind::map; }
  [[nodiscard]] bool is_plain(std::string_view word) const { return is_scalar() && !quoted && text == word; }

  /// Null if there is no such key.
  [[nodiscard]] const YamlNode* find(std::string_view key) const;
  [[nodiscard]] YamlNode* find(std::string_view key);
  /// Replaces or appends.
  void set(const std::string& key, YamlNode value);
  void remove(std::string_view key);
};

struct YamlField {
  std::string key;
  Origin origin;
  YamlNode value;
};

/// "the number 5", "the text 'x'", "a list": for messages.
[[nodiscard]] std::string describe(const YamlNode& node);

/// Gives every value below `node` this origin (but keeps lines if `origin.line` is 0).
void set_origin(YamlNode& node, const Origin& origin);

class Problems;

/// Longer texts are refused.
inline constexpr size_t kMaximumYamlBytes = size_t{1} << 20;

/// A null node for an empty text. Merge keys (`<<`) are resolved. What is not one well-formed YAML document
/// of reasonable size (1 MiB, 32 levels, 200 000 values, aliases counted as often as they are used; UTF-8; no
/// tags) becomes a problem at `origin` (whose line is replaced), and so does a key that occurs twice.
[[nodiscard]] YamlNode parse_yaml(const std::string& text, const Origin& origin, Problems& problems);

}  // namespace hyperattn
