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

std::string text_of(const json& object, const char* key) {
  const json value = object.value(key, json());
  return value.is_string() ? value.get<std::string>() : std::string();
}

JobReport report_in(const json& job) {
  JobReport report{.native = text_of(job, "job_state"), .reason = text_of(job, "state_reason")};
  if (job.value("job_id", json()).is_number_integer()) {
    report.id = fmt::format("{}", job["job_id"].get<std::int64_t>());
  }
  // A list from version 40 on.
  const json state = job.value("job_state", json());
  if (state.is_array() && !state.empty() && state.front().is_string()) {
    report.native = state.front().get<std::string>();
  }
  report.state = state_of_slurm(report.native);
  return report;
}

class SlurmRest : public BatchSystem {
 public:
  explicit SlurmRest(const BatchSystemAddress& address)
      : service_{.name = "slurmrestd", .endpoint = address.endpoint},
        api_(address.api),
        root_(fmt::format("/slurm/v0.0.{}", address.api)),
        user_(environment_variable("USER").value_or("root")) {
    if (address.token.empty()) return;
    service_.headers.push_back("X-SLURM-USER-NAME: " + user_);
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

  JobReport report(const std::string& id, const std::string& name) override {
    const JobReport own = by_number(id);
    if (is_alive(own.state) || name.empty()) return own;
    const JobReport other = foremost(alive_under(name));
    return is_alive(other.state) ? other : own;
  }

  void cancel(const std::string& id, const std::string& name) override {
    cancel_number(id);
    if (name.empty()) return;
    for (const JobReport& other : alive_under(name)) cancel_number(other.id);
  }

 private:
  // Throws what `trouble` says where the answer is no list of jobs.
  std::vector<json> jobs_of(const HttpReply& reply, const std::string& trouble) const {
    const json answer = io::parse_json(reply.body);
    if (reply.status != 200 || !answer.is_object() || !answer.contains("jobs") ||
        !answer["jobs"].is_array()) {
      fail(service_, reply, trouble);
    }
    std::vector<json> jobs;
    for (const json& job : answer["jobs"]) {
      if (job.is_object()) jobs.push_back(job);
    }
    return jobs;
  }

  JobReport by_number(const std::string& id) const {
    const std::string trouble = fmt::format("job {} cannot be asked for", id);
    const HttpReply reply = send(service_, HttpMethod::get, root_ + "/job/" + id);
    JobReport report;
    if (!says_no_such_job(reply)) {
      const std::vector<json> jobs = jobs_of(reply, trouble);
      if (jobs.empty()) fail(service_, reply, trouble);
      report = report_in(jobs.front());
    }
    report.id = id;
    return report;
  }

  // A chain goes on under other numbers: the name is the run's. All jobs of the cluster come for
  // that: report() asks only where the known one is over.
  std::vector<JobReport> alive_under(const std::string& name) const {
    const HttpReply reply = send(service_, HttpMethod::get, root_ + "/jobs");
    std::vector<JobReport> alive;
    for (const json& job : jobs_of(reply, "the jobs of the run cannot be asked for")) {
      const std::string user = text_of(job, "user_name");
      if (text_of(job, "name") != name || (!user.empty() && user != user_)) continue;
      const JobReport report = report_in(job);
      if (is_alive(report.state) && !report.id.empty()) alive.push_back(report);
    }
    return alive;
  }

  void cancel_number(const std::string& id) const {
    const HttpReply reply = send(service_, HttpMethod::remove, root_ + "/job/" + id);
    if (reply.status != 200 && !says_no_such_job(reply)) {
      fail(service_, reply, fmt::format("job {} is not cancelled", id));
    }
  }

 private:
  HttpService service_;
  int api_;
  std::string root_;
  std::string user_;
};

}  // namespace

std::unique_ptr<BatchSystem> slurm_rest(const BatchSystemAddress& address) {
  return std::make_unique<SlurmRest>(address);
}

}  // namespace hadal::launch
