#include "experiments/config/yaml_document.h"

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
  TreeBuilder(const Origin& origin, Problems& problems) : origin_(origin), problems_(problems) {}

  [[nodiscard]] YamlNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    YamlNode node = make(YamlNode::Kind::null, mark);
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
  };

  static int line_of(const YAML::Mark& mark) { return mark.line + 1; }

  [[noreturn]] static void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    throw Refusal{line_of(mark), "YAML tags such as '" + tag + "' are not part of the configuration"};
  }

  YamlNode make(YamlNode::Kind kind, const YAML::Mark& mark) {
    if (++nodes_ > kMaximumNodes)
      throw Refusal{line_of(mark), "more than " + std::to_string(kMaximumNodes) + " values"};
    YamlNode node;
    node.kind = kind;
    node.origin = origin_;
    node.origin.line = line_of(mark);
    return node;
  }

  void start(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (!tag.empty() && tag != "?" && tag != "!") refuse_tag(mark, tag);
    if (open_.size() >= kMaximumDepth)
      throw Refusal{line_of(mark), "nested more than " + std::to_string(kMaximumDepth) + " levels deep"};
    open_.push_back({make(kind, mark), anchor, false, {}});
  }

  void end() {
    Open top = std::move(open_.back());
    open_.pop_back();
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

  void finish_in_map(Open& map, YamlNode node) {
    if (!map.has_key) {
      if (!node.is_scalar())
        throw Refusal{node.origin.line, "a key must be a word, but is " + describe(node)};
      map.field.key = node.text;
      map.field.origin = node.origin;
      map.has_key = true;
      return;
    }
    if (map.node.fields.size() >= kMaximumKeys)
      throw Refusal{node.origin.line, "more than " + std::to_string(kMaximumKeys) + " keys in one map"};
    map.has_key = false;
    map.field.value = std::move(node);
    if (const YamlNode* first = map.node.find(map.field.key))
      problems_.add(map.field.origin, "key '" + map.field.key + "' occurs twice; first in line " +
                                          std::to_string(first->origin.line));
    else
      map.node.fields.push_back(std::move(map.field));
    map.field = {};
  }

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
  TreeBuilder builder(origin, problems);
  if (!parser.HandleNextDocument(builder)) return {};
  YamlNode root = builder.take();
  TreeBuilder second(origin, problems);
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
      return "empty";
    case YamlNode::Kind::list:
      return "a list";
    case YamlNode::Kind::map:
      return "a map";
    case YamlNode::Kind::scalar:
      break;
  }
  const std::string shown = node.text.size() > 80 ? cut_utf8(node.text, 80) + "…" : node.text;
  return node.quoted ? "the text \"" + shown + "\"" : "'" + shown + "'";
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
