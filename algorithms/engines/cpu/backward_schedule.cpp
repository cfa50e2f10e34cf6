#include "algorithms/engines/cpu/backward_schedule.h"

#include <algorithm>
#include <map>

#include "algorithms/plan_walk.h"

namespace hyperattn {
namespace {

// A pair of chunks is a few milliseconds of work. `exact` with its gradient at n = 8192 took 623 to 628 ms
// with 256 to 4096 rows: no difference above the scatter of 1 % (d = 64, Zen 4, one thread, like those
// below).
constexpr int64_t kChunkRows = 1024;
// Where the problem is small: more chunks give more threads work, and cost one thread time. At n = 2048 it
// took 42.9, 42.5, 39.5 and 37.8 ms with 32, 64, 128 and 256 rows, at n = 4096 148, 150, 157 and 156 ms with
// 8, 16, 32 and 64 chunks.
constexpr int64_t kSmallChunkRows = 128;
constexpr int64_t kChunksWanted = 32;
constexpr int64_t kMaxChunks = 512;
// `hyper` with its gradient and a sample of 1024 keys at n = 16384 took 199 to 202 ms with 1024 to 4096, and
// 229 ms with 512, where the sample is no short list.
constexpr int64_t kShortList = 2048;
// Of lists with segments: few, since the rows of a chunk that visit one segment should be a batch.
constexpr int64_t kVisitChunks = 16;

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

int64_t chunk_count(int64_t rows) {
  const int64_t wanted =
      std::max(ceil_div(rows, kChunkRows), std::min(kChunksWanted, ceil_div(rows, kSmallChunkRows)));
  return std::clamp<int64_t>(wanted, 1, kMaxChunks);
}

bool rows_are_distinct(const RowOrder& order, int64_t key_count) {
  if (order.is_run()) return true;
  std::vector<bool> seen(static_cast<size_t>(key_count), false);
  for (int64_t r = 0; r < order.count; ++r) {
    const auto row = static_cast<size_t>(order[r]);
    if (seen[row]) return false;
    seen[row] = true;
  }
  return true;
}

/// Equal chunks, whose borders move up to the next border of a segment where the list has segments.
std::vector<int64_t> borders_of(const ListPiece& piece, int64_t chunks) {
  const KeyList& list = piece.pass->lists[static_cast<size_t>(piece.list)];
  std::vector<int64_t> borders;
  for (int64_t c = 0; c <= chunks; ++c) {
    int64_t border = piece.first + piece.count * c / chunks;
    if (list.segments && c > 0 && c < chunks) {
      const auto next = std::lower_bound(list.segments->begin(), list.segments->end(), border);
      border = next == list.segments->end() ? border : std::max<int64_t>(*next, borders.back());
    }
    borders.push_back(border);
  }
  return borders;
}

void choose_chunks(ListPiece& piece) {
  const KeyList& list = piece.pass->lists[static_cast<size_t>(piece.list)];
  const int64_t queries = piece.pass->queries.count;
  int64_t key_chunks = 1;
  if (list.segments && static_cast<int64_t>(list.segments->size()) > kVisitChunks) {
    piece.query_chunks = key_chunks =
        std::clamp<int64_t>(ceil_div(queries, kSmallChunkRows), 1, kVisitChunks);
  } else if (piece.count <= kShortList && queries >= 4 * piece.count) {
    piece.query_chunks = chunk_count(queries);
    piece.replicas = piece.query_chunks;
    piece.direct = false;
  } else {
    piece.query_chunks = key_chunks = chunk_count(std::max(queries, piece.count));
  }
  piece.key_borders = borders_of(piece, key_chunks);
}

int64_t chunk_of(int64_t total, int64_t chunks, int64_t index) {
  // The inverse of chunk_range, whose borders are total·c/chunks rounded down.
  return ((index + 1) * chunks - 1) / total;
}

/// The pairs of chunks that hold entries.
class ChunkPairs {
 public:
  explicit ChunkPairs(const ListPiece& piece)
      : piece_(piece), held_(static_cast<size_t>(piece.query_chunks * piece.key_chunks()), 0) {}

  void add(const QueryGroup& group) {
    for_each_visit(*piece_.pass, group, [&](const Visit& visit) {
      if (visit.list == piece_.list) add(group.begin, group.end, visit.begin, visit.end);
    });
    const KeyList& list = piece_.pass->lists[static_cast<size_t>(piece_.list)];
    for_each_row_visit(*piece_.pass, group, [&](const RowVisit& visit) {
      if (visit.list != piece_.list) return;
      const SegmentRange range = segment_of(list, visit.segment);
      for (int64_t e = visit.first_entry; e < visit.last_entry; ++e) {
        const int64_t position = piece_.pass->row_entries[static_cast<size_t>(e)].position;
        add(position, position + 1, range.begin, range.end);
      }
    });
  }

  /// body(query chunk, key chunk), in this order.
  template <class Body>
  void for_each(const Body& body) const {
    for (int64_t q = 0; q < piece_.query_chunks; ++q)
      for (int64_t k = 0; k < piece_.key_chunks(); ++k)
        if (held_[static_cast<size_t>(q * piece_.key_chunks() + k)] != 0) body(q, k);
  }

 private:
  void add(int64_t first_position, int64_t last_position, int64_t first_rank, int64_t last_rank) {
    const int64_t begin = std::max(first_rank, piece_.first);
    const int64_t end = std::min(last_rank, piece_.first + piece_.count);
    if (begin >= end || first_position >= last_position) return;
    const int64_t queries = piece_.pass->queries.count;
    const int64_t last_query = chunk_of(queries, piece_.query_chunks, last_position - 1);
    const int64_t last_key = key_chunk_of(end - 1);
    for (int64_t q = chunk_of(queries, piece_.query_chunks, first_position); q <= last_query; ++q)
      for (int64_t k = key_chunk_of(begin); k <= last_key; ++k)
        held_[static_cast<size_t>(q * piece_.key_chunks() + k)] = 1;
  }

  [[nodiscard]] int64_t key_chunk_of(int64_t rank) const {
    const auto& borders = piece_.key_borders;
    return std::upper_bound(borders.begin(), borders.end(), rank) - borders.begin() - 1;
  }

  const ListPiece& piece_;
  std::vector<char> held_;
};

bool beyond_diagonal(const ListPiece& piece, int64_t query_chunk, int64_t key_chunk) {
  const Pass& pass = *piece.pass;
  if (!pass.triangular) return false;
  const ChunkRange rows = chunk_range(pass.queries.count, piece.query_chunks, query_chunk);
  const ChunkRange ranks = piece.ranks_of(key_chunk);
  return ranks.begin >= pass.last_visible(rows.end - 1) || ranks.end <= pass.first_visible(rows.begin);
}

}  // namespace

std::vector<std::vector<ListPiece>> make_pieces(const AttentionProblem& problem, const Phase& phase,
                                                int64_t list) {
  std::vector<std::vector<ListPiece>> rounds;
  const int64_t group = problem.heads() / problem.key_heads();
  for (const Pass& pass : phase.passes) {
    if (list >= static_cast<int64_t>(pass.lists.size())) continue;
    const KeyList& keys = pass.lists[static_cast<size_t>(list)];
    // Rows of K that row visits reach lie scattered, and are reached by few rows at a time: by rank they lie
    // together.
    const bool direct =
        !keys.synthetic && !keys.segments && rows_are_distinct(keys.order, problem.key_count());
    // Gathered gradients take memory by rank: a list longer than K is handled in pieces, unless it has
    // segments, which are not cut.
    const int64_t longest = keys.segments ? keys.order.count : problem.key_count();
    const int64_t step = std::max<int64_t>(1, std::min(keys.order.count, longest));
    for (int64_t first = 0; first < keys.order.count; first += step) {
      ListPiece piece;
      piece.pass = &pass;
      piece.list = list;
      piece.first = first;
      piece.round = first / step * group + pass.head % group;
      piece.count = std::min(step, keys.order.count - first);
      piece.direct = direct;
      choose_chunks(piece);
      const auto round = static_cast<size_t>(piece.round);
      if (rounds.size() <= round) rounds.resize(round + 1);
      rounds[round].push_back(std::move(piece));
    }
  }
  return rounds;
}

std::vector<std::vector<BackwardTask>> make_steps(const std::vector<ListPiece>& pieces) {
  std::map<int64_t, std::vector<BackwardTask>> steps;
  for (const ListPiece& piece : pieces) {
    ChunkPairs pairs(piece);
    for (const QueryGroup& group : piece.pass->groups) pairs.add(group);
    pairs.for_each([&](int64_t q, int64_t k) {
      if (beyond_diagonal(piece, q, k)) return;
      const int64_t step = piece.replicas > 1 ? k : (k - q + piece.key_chunks()) % piece.key_chunks();
      steps[step].push_back({&piece, q, k});
    });
  }
  std::vector<std::vector<BackwardTask>> ordered;
  for (auto& [step, tasks] : steps) ordered.push_back(std::move(tasks));
  return ordered;
}

}  // namespace hyperattn
