// The one home of writing files: an output appears whole or not at all, where its path leads.
#pragma once

#include <string>
#include <string_view>

namespace hyperattn {

/// Makes the folder that `path` lies in, if it is missing. Error(environment).
void make_parent_folder(const std::string& path);

/// The regular file that an output path names, there or still to be made: symbolic links are followed, so
/// that writing keeps them. Error(usage) for what a renamed file would destroy or could never be: a folder, a
/// device, a named pipe, a loop of links, the file that standard output or standard error goes to.
[[nodiscard]] std::string output_place(const std::string& path);

/// Refuses an existing output unless `force`: Error(usage) that says how to go on (`advice`). Refuses what
/// `output_place` refuses in any case.
void refuse_existing(const std::string& path, bool force, const std::string& advice);

/// A file being written beside its place under a temporary name (PLACE.partial), synced and renamed by
/// `commit`; removed by the destructor otherwise. It has the permissions of the file that it replaces.
class OutputFile {
 public:
  /// Creates it at once, so that a place that cannot be written to is found before the work is done. Throws
  /// as `output_place`, and Error(environment).
  explicit OutputFile(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  /// For libraries that write files by name, which must keep the file and close it.
  [[nodiscard]] const std::string& temporary_path() const { return temporary_; }
  /// The whole contents. Throws Error(environment).
  void write(std::string_view bytes);
  /// Call when nothing writes to the temporary file any more. Throws Error(environment).
  void commit();

 private:
  std::string path_;  ///< as given, for messages
  std::string place_;
  std::string temporary_;
};

/// An output of these bytes: whatever happens, the place holds the old file or the new one, whole.
void write_file_durably(const std::string& path, std::string_view bytes);

/// Syncs the folder that `path` lies in, so that a file made or renamed there survives a power loss.
void sync_folder_of(const std::string& path);

/// Beside an output, while it is written.
[[nodiscard]] inline std::string partial_path(const std::string& place) {
  return place + ".partial";
}
[[nodiscard]] inline std::string journal_path(const std::string& place) {
  return place + ".journal";
}

}  // namespace hyperattn
