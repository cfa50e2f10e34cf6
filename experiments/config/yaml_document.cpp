#include "experiments/config/yaml_document.h"

#include <fmt/core.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "core/utf8.h"
#include "experiments/config/problems.h"

namespace hyperattn {
namespace {

constexpr size_t kMaximumDepth = 32;
constexpr size_t kMaximumNodes = 200'000;
constexpr size_t kMaximumKeys = 1000;  // of one map; keys are searched one by one

/// Ends the parse; the message becomes a problem.
struct Refusal {
  int line;
  std::string message;
};

size_t count_nodes(const YamlNode& node) {
  size_t count = 1;
  for (const YamlNode& item : node.items) count += count_nodes(item);
  for (const YamlField& field : node.fields) count += count_nodes(field.value);
  return count;
}

// Aliases are copied as subtrees, so the depth of a tree can exceed that of the text.
size_t depth_of(const YamlNode& node) {
  size_t below = 0;
  for (const YamlNode& item : node.items) below = std::max(below, depth_of(item));
  for (const YamlField& field : node.fields) below = std::max(below, depth_of(field.value));
  return below + 1;
}

/// Builds the tree from yaml-cpp's events. yaml-cpp recurses once per level, but only after it has announced
/// the level here, so the limit on depth also guards its stack.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const std::string& text, const Origin& origin, Problems& problems)
      : text_(text), origin_(origin), problems_(problems) {}

  [[nodiscard]] YamlNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    YamlNode node = make(YamlNode::Kind::null, mark);
    if (is_null_word(mark)) node.text = "null";
    // yaml-cpp places a value that is not there at whatever follows; the reader of a message looks at the
    // key.
    if (!open_.empty() && open_.back().has_key) node.origin.line = open_.back().field.origin.line;
    finish(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) throw Refusal{line_of(mark), "an alias inside the value that it names"};
    nodes_ += count_nodes(found->second);
    if (nodes_ > kMaximumNodes || depth_of(found->second) + open_.size() > kMaximumDepth)
      throw Refusal{line_of(mark), "aliases blow the configuration up beyond any use"};
    finish(found->second, 0);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (tag != "?" && tag != "!") refuse_tag(mark, tag);
    YamlNode node = make(YamlNode::Kind::scalar, mark);
    node.text = value;
    node.quoted = tag == "!";
    finish(std::move(node), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    start(YamlNode::Kind::list, mark, tag, anchor);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    start(YamlNode::Kind::map, mark, tag, anchor);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapEnd() override { end(); }

 private:
  struct Open {
    YamlNode node;
    YAML::anchor_t anchor = 0;
    bool has_key = false;
    YamlField field;
    bool merges = false;                ///< the key is `<<`
    std::vector<YamlNode> merged = {};  ///< what `<<` names, the first before the others
  };

  /// Whether it was written, or is only a value that is not there: then the mark is at what follows.
  [[nodiscard]] bool is_null_word(const YAML::Mark& mark) const {
    const auto at = static_cast<size_t>(std::max(0, mark.pos));
    const std::string_view rest = std::string_view(text_).substr(std::min(at, text_.size()));
    for (const std::string_view word : {"~", "null", "Null", "NULL"})
      if (rest.starts_with(word))
        return rest.size() == word.size() ||
               std::string_view(" \t\r\n,]}").find(rest[word.size()]) != std::string_view::npos;
    return false;
  }

  static int line_of(const YAML::Mark& mark) { return mark.line + 1; }

  [[noreturn]] static void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    throw Refusal{line_of(mark),
                  fmt::format("YAML tags such as '{}' are not part of the configuration", tag)};
  }

  YamlNode make(YamlNode::Kind kind, const YAML::Mark& mark) {
    if (++nodes_ > kMaximumNodes)
      throw Refusal{line_of(mark), fmt::format("more than {} values", kMaximumNodes)};
    YamlNode node;
    node.kind = kind;
    node.origin = origin_;
    node.origin.line = line_of(mark);
    return node;
  }

  void start(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (!tag.empty() && tag != "?" && tag != "!") refuse_tag(mark, tag);
    if (open_.size() >= kMaximumDepth)
      throw Refusal{line_of(mark), fmt::format("nested more than {} levels deep", kMaximumDepth)};
    open_.push_back({make(kind, mark), anchor, false, {}, false, {}});
  }

  void end() {
    Open top = std::move(open_.back());
    open_.pop_back();
    for (const YamlNode& map : top.merged) merge(map, top.node);
    finish(std::move(top.node), top.anchor);
  }

  void finish(YamlNode node, YAML::anchor_t anchor) {
    if (anchor != 0) anchors_[anchor] = node;
    if (open_.empty())
      root_ = std::move(node);
    else if (open_.back().node.is_list())
      open_.back().node.items.push_back(std::move(node));
    else
      finish_in_map(open_.back(), std::move(node));
  }

  /// Adds the keys that the map has not itself.
  static void merge(const YamlNode& from, YamlNode& map) {
    for (const YamlField& field : from.fields)
      if (map.find(field.key) == nullptr) {
        check_key_count(map, field.origin.line);
        map.fields.push_back(field);
      }
  }

  static void check_key_count(const YamlNode& map, int line) {
    if (map.fields.size() >= kMaximumKeys)
      throw Refusal{line, fmt::format("more than {} keys in one map", kMaximumKeys)};
  }

  /// The value of `<<` (YAML's merge key): a map, or a list of maps.
  static void take_merged(Open& map, YamlNode node) {
    std::vector<YamlNode> maps;
    if (node.is_list())
      maps = std::move(node.items);
    else
      maps.push_back(std::move(node));
    for (YamlNode& one : maps) {
      if (!one.is_map())
        throw Refusal{one.origin.line, "'<<' takes a map or a list of maps, but is given " + describe(one)};
      map.merged.push_back(std::move(one));
    }
  }

  void finish_in_map(Open& map, YamlNode node) {
    if (!map.has_key) {
      if (!node.is_scalar())
        throw Refusal{node.origin.line, "a key must be a word, but is " + describe(node)};
      map.field.key = node.text;
      map.field.origin = node.origin;
      map.merges = node.is_plain("<<");
      map.has_key = true;
      return;
    }
    check_key_count(map.node, node.origin.line);
    map.has_key = false;
    if (map.merges) return take_merged(map, std::move(node));
    map.field.value = std::move(node);
    if (const YamlNode* first = map.node.find(map.field.key))
      problems_.add(map.field.origin, fmt::format("key '{}' occurs twice; first in line {}", map.field.key,
                                                  first->origin.line));
    else
      map.node.fields.push_back(std::move(map.field));
    map.field = {};
  }

  const std::string& text_;
  Origin origin_;
  Problems& problems_;
  YamlNode root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, YamlNode> anchors_;
  size_t nodes_ = 0;
};

/// What keeps `text` from being YAML text at all, with its line; an empty message if nothing does.
Refusal check_text(const std::string& text) {
  if (text.size() > kMaximumYamlBytes) return {0, "larger than 1 MiB, which no configuration needs"};
  int line = 1;
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(text, i);
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool control = byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r';
    if (length == 0 || control) return {line, "not text in UTF-8"};
    if (text[i] == '\n') ++line;
    i += length;
  }
  return {0, ""};
}

YamlNode parse_document(const std::string& text, const Origin& origin, Problems& problems) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  TreeBuilder builder(text, origin, problems);
  if (!parser.HandleNextDocument(builder)) return {};
  YamlNode root = builder.take();
  TreeBuilder second(text, origin, problems);
  if (parser.HandleNextDocument(second)) throw Refusal{0, "holds more than one YAML document"};
  return root;
}

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
  for (const YamlField& field : fields)
    if (field.key == key) return &field.value;
  return nullptr;
}

YamlNode* YamlNode::find(std::string_view key) {
  return const_cast<YamlNode*>(static_cast<const YamlNode*>(this)->find(key));
}

void YamlNode::set(const std::string& key, YamlNode value) {
  if (YamlNode* old = find(key)) {
    *old = std::move(value);
    return;
  }
  const Origin where = value.origin;
  fields.push_back({key, where, std::move(value)});
}

void YamlNode::remove(std::string_view key) {
  std::erase_if(fields, [&](const YamlField& field) { return field.key == key; });
}

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::null:
      return node.text.empty() ? "empty" : "null";
    case YamlNode::Kind::list:
      return "a list";
    case YamlNode::Kind::map:
      return "a map";
    case YamlNode::Kind::scalar:
      break;
  }
  const std::string shown = node.text.size() > 80 ? cut_utf8(node.text, 80) + "…" : node.text;
  return node.quoted ? fmt::format("the text \"{}\"", shown) : "'" + shown + "'";
}

void set_origin(YamlNode& node, const Origin& origin) {
  const int line = origin.line > 0 ? origin.line : node.origin.line;
  node.origin = origin;
  node.origin.line = line;
  for (YamlNode& item : node.items) set_origin(item, origin);
  for (YamlField& field : node.fields) {
    field.origin = node.origin;
    set_origin(field.value, origin);
  }
}

YamlNode parse_yaml(const std::string& text, const Origin& origin, Problems& problems) {
  Refusal refusal = check_text(text);
  if (refusal.message.empty()) {
    try {
      return parse_document(text, origin, problems);
    } catch (const Refusal& refused) {
      refusal = refused;
    } catch (const YAML::Exception& error) {
      refusal = {error.mark.is_null() ? 0 : error.mark.line + 1, "not well-formed YAML: " + error.msg};
    }
  }
  Origin where = origin;
  where.line = refusal.line;
  problems.add(where, refusal.message);
  return {};
}

}  // namespace hyperattn
