#include "algorithms/engines/cpu/backward_schedule.h"

#include <algorithm>
#include <map>
#include <set>

namespace hyperattn {
namespace {

constexpr int64_t kChunkRows = 1024;  // a pair of chunks is a few milliseconds of work
constexpr int64_t kSmallChunkRows = 128;
constexpr int64_t kChunksWanted = 32;  // enough for many threads where the problem is small
constexpr int64_t kMaxChunks = 512;
constexpr int64_t kShortList = 2048;

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

int64_t chunk_count(int64_t rows) {
  const int64_t wanted =
      std::max(ceil_div(rows, kChunkRows), std::min(kChunksWanted, ceil_div(rows, kSmallChunkRows)));
  return std::clamp<int64_t>(wanted, 1, kMaxChunks);
}

bool rows_are_distinct(const RowOrder& order, int64_t key_count) {
  if (!order.rows) return true;
  std::vector<bool> seen(static_cast<size_t>(key_count), false);
  for (int64_t r = 0; r < order.count; ++r) {
    const auto row = static_cast<size_t>(order[r]);
    if (seen[row]) return false;
    seen[row] = true;
  }
  return true;
}

void choose_chunks(KeySegment& segment) {
  const int64_t queries = segment.pass->queries.count;
  if (segment.count <= kShortList && queries >= 4 * segment.count) {
    segment.query_chunks = chunk_count(queries);
    segment.replicas = segment.query_chunks;
    segment.direct = false;
    return;
  }
  segment.query_chunks = segment.key_chunks = chunk_count(std::max(queries, segment.count));
}

int64_t chunk_of(int64_t total, int64_t chunks, int64_t index) {
  // The inverse of chunk_range, whose borders are total·c/chunks rounded down.
  return ((index + 1) * chunks - 1) / total;
}

void add_pairs(const KeySegment& segment, const QueryGroup& group,
               std::set<std::pair<int64_t, int64_t>>& pairs) {
  const int64_t queries = segment.pass->queries.count;
  for (int64_t v = group.first_visit; v < group.last_visit; ++v) {
    const Visit& visit = segment.pass->visits[static_cast<size_t>(v)];
    const int64_t begin = std::max(visit.begin, segment.first) - segment.first;
    const int64_t end = std::min(visit.end, segment.first + segment.count) - segment.first;
    if (visit.list != segment.list || begin >= end || group.begin >= group.end) continue;
    const int64_t last_query = chunk_of(queries, segment.query_chunks, group.end - 1);
    const int64_t last_key = chunk_of(segment.count, segment.key_chunks, end - 1);
    for (int64_t q = chunk_of(queries, segment.query_chunks, group.begin); q <= last_query; ++q)
      for (int64_t k = chunk_of(segment.count, segment.key_chunks, begin); k <= last_key; ++k)
        pairs.emplace(q, k);
  }
}

bool above_diagonal(const KeySegment& segment, int64_t query_chunk, int64_t key_chunk) {
  if (!segment.pass->triangular) return false;
  const ChunkRange rows = chunk_range(segment.pass->queries.count, segment.query_chunks, query_chunk);
  return segment.first + chunk_range(segment.count, segment.key_chunks, key_chunk).begin >= rows.end;
}

}  // namespace

std::vector<KeySegment> make_segments(const Phase& phase, int64_t list, int64_t key_count) {
  std::vector<KeySegment> segments;
  for (const Pass& pass : phase.passes) {
    if (list >= static_cast<int64_t>(pass.lists.size())) continue;
    const KeyList& keys = pass.lists[static_cast<size_t>(list)];
    const bool direct = !keys.synthetic && rows_are_distinct(keys.order, key_count);
    // Gathered gradients take memory by rank: a list longer than K is handled in pieces.
    const int64_t piece = std::max<int64_t>(1, std::min(keys.order.count, key_count));
    for (int64_t first = 0; first < keys.order.count; first += piece) {
      KeySegment segment{.pass = &pass, .list = list, .piece = first / piece, .first = first};
      segment.count = std::min(piece, keys.order.count - first);
      segment.direct = direct;
      choose_chunks(segment);
      segments.push_back(segment);
    }
  }
  return segments;
}

std::vector<std::vector<BackwardTask>> make_steps(const std::vector<KeySegment>& segments) {
  std::map<int64_t, std::vector<BackwardTask>> steps;
  for (const KeySegment& segment : segments) {
    std::set<std::pair<int64_t, int64_t>> pairs;
    for (const QueryGroup& group : segment.pass->groups) add_pairs(segment, group, pairs);
    for (const auto& [q, k] : pairs) {
      if (above_diagonal(segment, q, k)) continue;
      const int64_t step = segment.replicas > 1 ? k : (k - q + segment.key_chunks) % segment.key_chunks;
      steps[step].push_back({&segment, q, k});
    }
  }
  std::vector<std::vector<BackwardTask>> ordered;
  for (auto& [step, tasks] : steps) ordered.push_back(std::move(tasks));
  return ordered;
}

}  // namespace hyperattn
