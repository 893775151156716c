// Slurm by its REST interface (slurmrestd(8)).
#include <fmt/format.h>

#include "io/error.hpp"
#include "io/json.hpp"
#include "launch/environment.hpp"
#include "launch/job/batch_system.hpp"
#include "launch/job/forms.hpp"
#include "launch/job/http.hpp"

namespace hadal::launch {
namespace {

using nlohmann::json;

// ESLURM_INVALID_JOB_ID (slurm_errno.h); it comes with status 500.
constexpr int kNoSuchJob = 2017;

bool says_no_such_job(const HttpReply& reply) {
  const json answer = io::parse_json(reply.body);
  if (!answer.is_object() || !answer.contains("errors") || !answer["errors"].is_array()) {
    return false;
  }
  for (const json& error : answer["errors"]) {
    for (const char* key : {"error_number", "error_code"}) {
      if (error.is_object() && error.value(key, json()) == kNoSuchJob) return true;
    }
  }
  return false;
}

class SlurmRest : public BatchSystem {
 public:
  explicit SlurmRest(const BatchSystemAddress& address)
      : service_{.name = "slurmrestd", .endpoint = address.endpoint},
        api_(address.api),
        root_(fmt::format("/slurm/v0.0.{}", address.api)) {
    if (address.token.empty()) return;
    service_.headers.push_back("X-SLURM-USER-NAME: " +
                               environment_variable("USER").value_or("root"));
    service_.headers.push_back("X-SLURM-USER-TOKEN: " + read_token(address.token));
  }

  std::string preview(const JobDescription& job) const override {
    JobDescription told = job;
    told.slurmrestd = api_;
    return render(find_form("slurmrestd"), told);
  }

  std::string submit(const JobDescription& job) override {
    const HttpReply reply = send(service_, HttpMethod::post, root_ + "/job/submit", preview(job));
    const json answer = io::parse_json(reply.body);
    if (reply.status != 200 || !answer.is_object() || !answer.contains("job_id") ||
        !answer["job_id"].is_number_integer()) {
      fail(service_, reply, "the job is not submitted");
    }
    return fmt::format("{}", answer["job_id"].get<std::int64_t>());
  }

  JobReport report(const std::string& id, const std::string&) override {
    const HttpReply reply = send(service_, HttpMethod::get, root_ + "/job/" + id);
    JobReport report{.id = id};
    if (says_no_such_job(reply)) return report;
    const json answer = io::parse_json(reply.body);
    if (reply.status != 200 || !answer.is_object() || !answer.contains("jobs") ||
        !answer["jobs"].is_array() || answer["jobs"].empty()) {
      fail(service_, reply, fmt::format("job {} cannot be asked for", id));
    }
    const json& job = answer["jobs"].front();
    // A list from version 40 on.
    const json state = job.value("job_state", json());
    if (state.is_string()) report.native = state.get<std::string>();
    if (state.is_array() && !state.empty() && state.front().is_string()) {
      report.native = state.front().get<std::string>();
    }
    if (job.value("state_reason", json()).is_string()) {
      report.reason = job["state_reason"].get<std::string>();
    }
    report.state = state_of_slurm(report.native);
    return report;
  }

  void cancel(const std::string& id, const std::string&) override {
    const HttpReply reply = send(service_, HttpMethod::remove, root_ + "/job/" + id);
    if (reply.status != 200 && !says_no_such_job(reply)) {
      fail(service_, reply, fmt::format("job {} is not cancelled", id));
    }
  }

 private:
  HttpService service_;
  int api_;
  std::string root_;
};

}  // namespace

std::unique_ptr<BatchSystem> slurm_rest(const BatchSystemAddress& address) {
  return std::make_unique<SlurmRest>(address);
}

}  // namespace hadal::launch
