// Work on the nodes of all heads: one random stream a node, and loops that keep all threads busy whatever the
// sizes of the nodes.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "algorithms/call.h"
#include "algorithms/nodes/causal.h"
#include "core/parallel.h"
#include "core/random.h"

namespace hyperattn {

/// The stream (seed, purpose, trial, head, node.stream).
[[nodiscard]] inline RandomStream node_stream(const Call& call, Purpose purpose, const HeadNode& place) {
  return {call.seed, purpose, call.trial, static_cast<uint32_t>(place.head), place.node.stream};
}

/// Calls body(i) for some of the nodes: those that are more than a thread's share of all their rows one after
/// the other, with the threads inside the body, then all others in parallel, `together` at once.
template <class Body>
void for_each_node(const std::vector<HeadNode>& nodes, const std::vector<size_t>& which, const Body& body,
                   int64_t together = 1) {
  int64_t rows = 0;
  for (const size_t i : which) rows += nodes[i].node.query_count();
  std::vector<size_t> small;
  for (const size_t i : which) {
    if (nodes[i].node.query_count() * thread_count() > rows)
      body(i);
    else
      small.push_back(i);
  }
  parallel_for(
      static_cast<int64_t>(small.size()), [&](int64_t i, int) { body(small[static_cast<size_t>(i)]); },
      together);
}

[[nodiscard]] inline std::vector<size_t> all_nodes(const std::vector<HeadNode>& nodes) {
  std::vector<size_t> all(nodes.size());
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

/// For every node.
template <class Body>
void for_each_node(const std::vector<HeadNode>& nodes, const Body& body) {
  for_each_node(nodes, all_nodes(nodes), body);
}

}  // namespace hyperattn
