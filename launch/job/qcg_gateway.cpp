// QCG's REST gateway, as its clients speak to it (indigo-dc/deep-qcg-client, Qcg.java).
#include <fmt/format.h>

#include "io/error.hpp"
#include "io/json.hpp"
#include "launch/job/batch_system.hpp"
#include "launch/job/forms.hpp"
#include "launch/job/http.hpp"

namespace hadal::launch {
namespace {

using nlohmann::json;

std::string text_of(const json& object, const char* key) {
  const json value = object.value(key, json());
  return value.is_string() ? value.get<std::string>() : "";
}

class QcgGateway : public BatchSystem {
 public:
  explicit QcgGateway(const BatchSystemAddress& address)
      : service_{.name = "the QCG gateway", .endpoint = address.endpoint} {
    while (service_.endpoint.ends_with('/')) service_.endpoint.pop_back();
    if (!address.token.empty()) {
      service_.headers.push_back("Authorization: Bearer " + read_token(address.token));
    }
  }

  std::string preview(const JobDescription& job) const override {
    return render(find_form("qcg-rest"), job);
  }

  std::string submit(const JobDescription& job) override {
    const HttpReply reply = send(service_, HttpMethod::post, "/jobs/", preview(job));
    const json answer = io::parse_json(reply.body);
    const bool good = (reply.status == 200 || reply.status == 201) && answer.is_object();
    const std::string id = good ? text_of(answer, "id") : "";
    if (id.empty()) fail(service_, reply, "the job is not submitted");
    return id;
  }

  JobReport report(const std::string& id, const std::string&) override {
    const HttpReply reply = send(service_, HttpMethod::get, "/jobs/" + id);
    if (reply.status == 404) return {.id = id};
    const json answer = io::parse_json(reply.body);
    if (reply.status != 200 || !answer.is_object()) {
      fail(service_, reply, fmt::format("job {} cannot be asked for", id));
    }
    JobReport report{
        .id = id, .native = text_of(answer, "state"), .reason = text_of(answer, "errors")};
    report.state = state_of_qcg(report.native);
    return report;
  }

  void cancel(const std::string& id, const std::string&) override {
    const HttpReply reply = send(service_, HttpMethod::remove, "/jobs/" + id);
    // 400 and 404: it is over already.
    const bool over = reply.status == 400 || reply.status == 404;
    if (!over && (reply.status < 200 || reply.status > 299)) {
      fail(service_, reply, fmt::format("job {} is not cancelled", id));
    }
  }

 private:
  HttpService service_;
};

}  // namespace

std::unique_ptr<BatchSystem> qcg_gateway(const BatchSystemAddress& address) {
  return std::make_unique<QcgGateway>(address);
}

}  // namespace hadal::launch
