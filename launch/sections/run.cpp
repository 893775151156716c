#include "launch/gpus.hpp"
#include "launch/sections/table.hpp"

namespace hadal::launch {

using engine::RunConfig;
using nlohmann::json;
using Kind = ValueKind;

void add_run(Table& table) {
  table.set("run.name", plain(Kind::text), nullptr, Bound::free,
            "Name of the run; the config file's stem.",
            [](RunConfig& c, const json& v) { c.run.name = v; });
  table.set("run.dir", plain(Kind::path), nullptr, Bound::free,
            "The run folder; runs/<name> beside the config file.",
            [](RunConfig& c, const json& v) { c.run.dir = v.get<std::string>(); });
  table.set("run.seed", integer(0), 0, Bound::identity, "Seed of everything random.",
            [](RunConfig& c, const json& v) { c.run.seed = v.get<std::uint64_t>(); });
  table.set(
      "run.device", choice({"auto", "cpu", "cuda", "twin"}), "auto", Bound::free,
      "Where to compute; auto: GPUs where every rank sees one. twin: what GPUs do, on the CPU "
      "and with its bits, for tests.",
      [](RunConfig& c, const json& v) { c.run.device = device_wish(v); });
  table.set("run.share_gpus", plain(Kind::boolean), false, Bound::free,
            "Let several ranks of a host compute on one GPU.",
            [](RunConfig& c, const json& v) { c.run.share_gpus = v; });
  table.set("run.deterministic", plain(Kind::boolean), true, Bound::identity,
            "On GPUs, only algorithms that give the same bits each time.",
            [](RunConfig& c, const json& v) { c.run.deterministic = v; });
  table.set(
      "run.graphs", plain(Kind::boolean), true, Bound::free,
      "On GPUs, record forward and backward once and replay them as one launch. Changes no bit.",
      [](RunConfig& c, const json& v) { c.run.graphs = v; });
  table.set("run.threads", integer(1, 1024), 1, Bound::identity,
            "Cores of one worker's operators. Another number gives other bits.",
            [](RunConfig& c, const json& v) { c.run.threads = v; });
  table.set("run.workers", integer(0, 4096), 0, Bound::free,
            "Workers of a rank; 0: as many as its cores and memory hold. Changes no bit.",
            [](RunConfig& c, const json& v) { c.run.workers = v; });
  table.set("run.isa", choice({"native", "avx2", "avx512"}), "native", Bound::identity,
            "Vector extensions to use; pin them to keep the bits over mixed nodes.",
            [](RunConfig& c, const json& v) { c.run.isa = v; });
  table.set("run.overlap", choice({"auto", "always", "never"}), "auto", Bound::free,
            "Send gradients to other hosts while backward goes on; auto measures. Changes no bit.",
            [](RunConfig& c, const json& v) {
              c.run.overlap = pick<engine::Overlap>(v, {{"auto", engine::Overlap::automatic},
                                                        {"always", engine::Overlap::always},
                                                        {"never", engine::Overlap::never}});
            });
  table.set("run.collective_timeout", plain(Kind::duration), "30m", Bound::free,
            "How long a rank waits for others before the run ends, exit 76, with who did not come.",
            [](RunConfig& c, const json& v) { c.run.collective_timeout = *parse_duration(v); });
  table.set("run.deadline", plain(Kind::duration), nullptr, Bound::free,
            "Time from the program's start after which it has saved and stopped, exit 75; the end "
            "of the allocation holds too.",
            [](RunConfig& c, const json& v) { c.run.deadline = *parse_duration(v); });
  table.set("run.on_processor_change", choice({"warn", "stop"}), "warn", Bound::free,
            "When a run goes on where the arithmetic gives other bits.",
            [](RunConfig& c, const json& v) {
              c.run.on_processor_change =
                  pick<engine::OnProcessorChange>(v, {{"warn", engine::OnProcessorChange::warn},
                                                      {"stop", engine::OnProcessorChange::stop}});
            });
}

}  // namespace hadal::launch
