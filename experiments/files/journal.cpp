#include "experiments/files/journal.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "experiments/files/descriptor.h"
#include "experiments/files/output_file.h"
#include "experiments/files/read_log.h"

namespace hyperattn {
namespace {

constexpr size_t kChecksumDigits = 8;

/// CRC-32 (IEEE 802.3). Records are a few kilobytes, so bit by bit is fast enough.
uint32_t checksum(const std::string& text) {
  uint32_t crc = 0xFFFFFFFFU;
  for (const char c : text) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0xEDB88320U : 0U);
  }
  return ~crc;
}

/// "1a2b3c4d text\n".
std::string framed(const std::string& text) {
  std::array<char, kChecksumDigits + 2> digits{};
  std::snprintf(digits.data(), digits.size(), "%08x ", checksum(text));
  return digits.data() + text + "\n";
}

/// Takes the text out of a line without its line break; false if the checksum does not fit.
bool unframe(const std::string& line, std::string& text) {
  if (line.size() <= kChecksumDigits || line[kChecksumDigits] != ' ') return false;
  uint32_t expected = 0;
  const char* end = line.data() + kChecksumDigits;
  if (std::from_chars(line.data(), end, expected, 16).ptr != end) return false;
  text = line.substr(kChecksumDigits + 1);
  return checksum(text) == expected;
}

std::string read_all(int descriptor, const std::string& path) {
  std::string bytes;
  std::array<char, 1 << 16> block{};
  for (;;) {
    const ssize_t count = ::read(descriptor, block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_input(fmt::format("'{}' can't be read: {}", path, std::strerror(errno)));
    if (count == 0) return bytes;
    bytes.append(block.data(), static_cast<size_t>(count));
  }
}

/// Opened without waiting, as one that is no regular file might.
int open_journal(const std::string& path, int flags, mode_t mode = 0) {
  const int descriptor = ::open(path.c_str(), flags | O_NONBLOCK | O_CLOEXEC, mode);
  struct stat status {};
  if (descriptor < 0 || (::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode))) return descriptor;
  ::close(descriptor);
  fail_usage(fmt::format(
      "'{}', where the journal of the results goes, is no regular file; name another output", path));
}

/// Whether the bytes can be the beginning of a record, so that a file of someone else's is not cut off as a
/// torn one.
bool may_be_torn(std::string_view bytes) {
  for (size_t i = 0; i < std::min(bytes.size(), kChecksumDigits); ++i)
    if (std::isxdigit(static_cast<unsigned char>(bytes[i])) == 0) return false;
  return bytes.size() <= kChecksumDigits || bytes[kChecksumDigits] == ' ';
}

struct WholeRecords {
  std::vector<std::string> records;
  size_t bytes = 0;  ///< that they take; what follows is torn
};

WholeRecords parse_records(const std::string& bytes, const std::string& path) {
  WholeRecords whole;
  std::string text;
  while (whole.bytes < bytes.size()) {
    const size_t end = bytes.find('\n', whole.bytes);
    if (end == std::string::npos) break;  // torn
    if (!unframe(bytes.substr(whole.bytes, end - whole.bytes), text)) {
      if (end + 1 == bytes.size()) break;  // the last record: torn as well
      fail_input(fmt::format("'{}' is damaged: record {} does not fit its checksum", path,
                             whole.records.size() + 1));
    }
    whole.records.push_back(text);
    whole.bytes = end + 1;
  }
  if (!may_be_torn(std::string_view(bytes).substr(whole.bytes)))
    fail_input(fmt::format(
        "'{}' is no journal of results, or is damaged at its end; move it away, or name another output",
        path));
  return whole;
}

}  // namespace

std::vector<std::string> read_journal(const std::string& path) {
  const int descriptor = open_journal(path, O_RDONLY);
  if (descriptor < 0 && errno == ENOENT) return {};
  if (descriptor < 0) fail_input(fmt::format("'{}' can't be read: {}", path, std::strerror(errno)));
  note_read(path, false);
  const std::string bytes = read_all(descriptor, path);
  ::close(descriptor);
  return parse_records(bytes, path).records;
}

Journal::Journal(const std::string& path, const std::string& like) : path_(path) {
  open_and_lock(like);
  try {
    read_records();
    if (!existed_) sync_folder_of(path_);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

Journal::~Journal() {
  if (descriptor_ >= 0) ::close(descriptor_);  // which releases the lock
}

void Journal::open_and_lock(const std::string& like) {
  struct stat permissions {};
  const bool has_like = !like.empty() && ::stat(like.c_str(), &permissions) == 0;
  do {  // again if its last owner removed the file between our opening and our locking it
    if (descriptor_ >= 0) ::close(descriptor_);
    existed_ = std::filesystem::exists(path_);
    descriptor_ =
        open_journal(path_, O_RDWR | O_CREAT | O_APPEND, has_like ? permissions.st_mode & 0777U : 0666);
    if (descriptor_ < 0) fail_writing(path_, std::strerror(errno));
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      const int reason = errno;
      if (reason == EWOULDBLOCK) {
        ::close(std::exchange(descriptor_, -1));
        fail_environment(fmt::format("'{}' is in use: another process is writing these results", path_));
      }
      // Lustre without -o flock has none (ENOSYS), nor has NFS without its daemon (ENOLCK), and so on.
      lock_problem_ = std::strerror(reason);
    }
  } while (!is_in_place());
}

bool Journal::is_in_place() const {
  struct stat ours {};
  struct stat there {};
  return ::fstat(descriptor_, &ours) == 0 && ::stat(path_.c_str(), &there) == 0 &&
         ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

void Journal::read_records() {
  const std::string bytes = read_all(descriptor_, path_);
  WholeRecords whole = parse_records(bytes, path_);
  records_ = std::move(whole.records);
  size_ = static_cast<int64_t>(whole.bytes);
  if (whole.bytes < bytes.size() && ::ftruncate(descriptor_, size_) != 0)
    fail_writing(path_, std::strerror(errno));
}

void Journal::append(const std::string& record) {
  if (descriptor_ < 0) throw std::logic_error("nothing can be appended to a journal that was removed");
  if (record.find('\n') != std::string::npos) throw std::logic_error("a journal record holds a line break");
  if (!is_in_place()) fail_environment(fmt::format("'{}' was removed while it was being written", path_));
  const std::string line = framed(record);
  if (!write_all(descriptor_, line.data(), line.size()) || ::fdatasync(descriptor_) != 0) {
    const int reason = errno;
    if (::ftruncate(descriptor_, size_) != 0) {  // then the torn record is cut off when it is next read
    }
    fail_writing(path_, std::strerror(reason));
  }
  size_ += static_cast<int64_t>(line.size());
}

void Journal::clear() {
  if (::ftruncate(descriptor_, 0) != 0 || ::fdatasync(descriptor_) != 0)
    fail_writing(path_, std::strerror(errno));
  size_ = 0;
}

void Journal::remove() {
  if (descriptor_ < 0) return;
  if (is_in_place() && ::unlink(path_.c_str()) != 0) fail_writing(path_, std::strerror(errno));
  ::close(std::exchange(descriptor_, -1));
}

}  // namespace hyperattn
