#include "experiments/running/run_options.h"

#include <fmt/core.h>

#include <charconv>

#include "core/error.h"

namespace hyperattn {

Shard parse_shard(const std::string& text) {
  constexpr int64_t kMaxShards = 100000;
  Shard shard;
  const char* end = text.data() + text.size();
  const auto index = std::from_chars(text.data(), end, shard.index);
  const bool slash = index.ec == std::errc() && index.ptr != end && *index.ptr == '/';
  const auto count = std::from_chars(slash ? index.ptr + 1 : end, end, shard.count);
  if (!slash || count.ec != std::errc() || count.ptr != end || shard.count < 1 || shard.count > kMaxShards ||
      shard.index < 0 || shard.index > shard.count)
    fail_usage(fmt::format(
        "--shard must be I/N with 0 <= I <= N and 1 <= N <= {} (N/N is the same as 0/N), but is '{}'",
        kMaxShards, text));
  shard.index %= shard.count;
  return shard;
}

}  // namespace hyperattn
