#include "experiments/language_model/text.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "experiments/files/json_file.h"
#include "experiments/files/read_log.h"
#include "experiments/files/sha256.h"
#include "experiments/language_model/token_file.h"

namespace hyperattn {
namespace {

namespace fs = std::filesystem;

/// Joins the files of a folder, and below it; refuses a folder that lies in itself by way of symbolic links.
class FolderReader {
 public:
  std::string read(const fs::path& folder) {
    append(folder);
    return std::move(bytes_);
  }

 private:
  void append(const fs::path& folder) {
    for (const fs::path& above : path_)
      if (fs::equivalent(above, folder))
        fail_input(
            fmt::format("the folder '{}' leads back to '{}' by a symbolic link, so the text would never end; "
                        "name a folder without such a link",
                        folder.string(), above.string()));
    path_.push_back(folder);
    std::vector<fs::path> files;
    std::vector<fs::path> folders;
    list(folder, files, folders);
    for (const fs::path& file : files) append_file(file);
    for (const fs::path& subfolder : folders) append(subfolder);
    path_.pop_back();
  }

  static void list(const fs::path& folder, std::vector<fs::path>& files, std::vector<fs::path>& folders) {
    std::error_code error;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
      std::error_code status_error;
      const fs::file_status status = entry->status(status_error);
      if (!fs::is_directory(status) && !fs::is_regular_file(status))
        fail_input(
            fmt::format("'{}' is neither a file nor a folder{}", entry->path().string(),
                        status_error ? ": " + status_error.message() : ", so its text cannot be read"));
      (fs::is_directory(status) ? folders : files).push_back(entry->path());
    }
    if (error)
      fail_input(fmt::format("the folder '{}' cannot be read: {}", folder.string(), error.message()));
    std::sort(files.begin(), files.end());
    std::sort(folders.begin(), folders.end());
  }

  void append_file(const fs::path& file) {
    if (!first_) bytes_ += '\0';
    first_ = false;
    bytes_ += read_whole_file(file.string(), false);  // the whole text has a digest
  }

  std::vector<fs::path> path_;  ///< the folders that are being read, from the outermost one
  std::string bytes_;
  bool first_ = true;
};

}  // namespace

const int32_t* TokenText::window(int64_t i, int64_t n, bool with_next) const {
  const int64_t begin = i * n;
  const int64_t needed = begin + n + (with_next ? 1 : 0);
  const auto count = static_cast<int64_t>(ids.size());
  if (needed > count)
    fail_input(fmt::format("'{}' is too short: window {} of {} tokens needs {} tokens, but it has {}", name,
                           i, n, needed, count));
  return ids.data() + begin;
}

std::string read_text_bytes(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error))
    fail_input(fmt::format(
        "the text '{}' does not exist{}", path,
        path == kDefaultText ? " (it comes with Debian's libeigen3-dev; text=FILE names another)" : ""));
  std::string bytes;
  if (fs::is_directory(path, error))
    bytes = FolderReader().read(path);
  else
    bytes = read_whole_file(path);
  if (bytes.empty()) fail_input(fmt::format("the text '{}' is empty", path));
  return bytes;
}

TokenText byte_tokens(const std::string& path) {
  const std::string bytes = read_text_bytes(path);
  TokenText text{path, sha256(bytes), {}, true};
  note_contents(path, text.sha256);
  text.ids.reserve(bytes.size());
  for (const char c : bytes) text.ids.push_back(static_cast<unsigned char>(c));
  return text;
}

TokenText read_token_file(const std::string& path, int64_t vocab_size) {
  const std::string bytes = read_whole_file(path);
  return {path, sha256(bytes), parse_token_ids(bytes, path, vocab_size), false};
}

std::vector<ParameterSpec> model_and_text_parameters() {
  return {
      text_parameter("model",
                     "folder of a model (config.json and safetensors), relative to the current folder")
          .by_default(std::string(kDefaultModel)),
      text_parameter("text",
                     "file whose bytes are the tokens, or folder whose files are; default: Eigen's sources")
          .or_absent(),
      text_parameter("ids", "file of token ids in place of text: decimal, JSON or .npy").or_absent(),
  };
}

TokenText read_tokens(const Parameters& parameters, const ModelConfig& config) {
  if (parameters.has("ids")) {
    if (parameters.has("text")) fail_usage("text and ids are both given; keep one of them");
    return read_token_file(parameters.text("ids"), config.vocab_size);
  }
  if (!config.byte_tokenizer)
    fail_usage(
        fmt::format("the model '{}' has no byte tokenizer (\"tokenizer\": \"byte\" in its config.json), so "
                    "ids must name a file of token ids",
                    parameters.text("model")));
  return byte_tokens(parameters.has("text") ? parameters.text("text") : kDefaultText);
}

}  // namespace hyperattn
