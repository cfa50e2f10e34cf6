#include "experiments/files/durable_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "core/error.h"

namespace hyperattn {
namespace {

constexpr size_t kChecksumDigits = 8;

[[noreturn]] void fail_writing(const std::string& path, const std::string& reason) {
  fail_environment("'" + path + "' can't be written: " + reason);
}

/// An open file descriptor.
class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : path_(path), value_(::open(path.c_str(), flags, 0666)) {
    if (value_ < 0) fail_writing(path, std::strerror(errno));
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  [[nodiscard]] int get() const { return value_; }
  /// Closing can report a write that failed late (network file systems do).
  void close() {
    if (::close(std::exchange(value_, -1)) != 0) fail_writing(path_, std::strerror(errno));
  }

 private:
  std::string path_;
  int value_;
};

/// Writes all bytes; false with errno set if that failed.
bool write_all(int descriptor, const char* bytes, size_t count) {
  while (count > 0) {
    const ssize_t written = ::write(descriptor, bytes, count);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes += written;
    count -= static_cast<size_t>(written);
  }
  return true;
}

void sync_folder_of(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  const Descriptor descriptor(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // Some file systems can't sync a folder (EINVAL); there renaming is as durable as it gets.
  if (::fsync(descriptor.get()) != 0 && errno != EINVAL) fail_writing(folder, std::strerror(errno));
}

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
    if (count < 0) fail_input("'" + path + "' can't be read: " + std::strerror(errno));
    if (count == 0) return bytes;
    bytes.append(block.data(), static_cast<size_t>(count));
  }
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
      fail_input("'" + path + "' is damaged: record " + std::to_string(whole.records.size() + 1) +
                 " does not fit its checksum");
    }
    whole.records.push_back(text);
    whole.bytes = end + 1;
  }
  return whole;
}

}  // namespace

void make_parent_folder(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  if (parent.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(parent, error);
  if (error && !std::filesystem::is_directory(parent))
    fail_environment("the folder '" + parent.string() + "' can't be made: " + error.message());
}

void write_file_durably(const std::string& path, const std::string& bytes) {
  const std::string partial = path + ".partial";
  try {
    Descriptor file(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC);
    if (!write_all(file.get(), bytes.data(), bytes.size()) || ::fsync(file.get()) != 0)
      fail_writing(path, std::strerror(errno));
    file.close();
    if (::rename(partial.c_str(), path.c_str()) != 0) fail_writing(path, std::strerror(errno));
  } catch (const Error&) {
    ::unlink(partial.c_str());
    throw;
  }
  sync_folder_of(path);
}

std::vector<std::string> read_journal(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0 && errno == ENOENT) return {};
  if (descriptor < 0) fail_input("'" + path + "' can't be read: " + std::strerror(errno));
  const std::string bytes = read_all(descriptor, path);
  ::close(descriptor);
  return parse_records(bytes, path).records;
}

Journal::Journal(const std::string& path) : path_(path) {
  open_and_lock();
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

void Journal::open_and_lock() {
  do {  // again if its last owner removed the file between our opening and our locking it
    if (descriptor_ >= 0) ::close(descriptor_);
    existed_ = std::filesystem::exists(path_);
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail_writing(path_, std::strerror(errno));
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      const int reason = errno;
      ::close(std::exchange(descriptor_, -1));
      if (reason == EWOULDBLOCK)
        fail_environment("'" + path_ + "' is in use: another process is writing these results");
      fail_writing(path_, std::strerror(reason));
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
  if (!is_in_place()) fail_environment("'" + path_ + "' was removed while it was being written");
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
