#pragma once
// The options of `hadal pack`.

#include "io/pack.hpp"

namespace CLI {
class App;
}

namespace hadal::launch {

void add_pack_options(CLI::App& verb, io::PackOptions& options);

}  // namespace hadal::launch
