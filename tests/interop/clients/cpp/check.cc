// Makes the calls that it reads from standard input, and prints what each of them got.

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <future>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tokenbroker/v1/token_broker.grpc.pb.h"

namespace pb = tokenbroker::v1;

namespace {

constexpr int kPatience = 20'000;  // milliseconds

std::string Read(const std::string& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) {
    std::cerr << name << " is not set\n";
    std::exit(1);
  }
  return value;
}

std::unique_ptr<pb::TokenBroker::Stub> Connect(const std::string& who) {
  const std::string folder = Environment("INTEROP_FOLDER") + "/";
  grpc::SslCredentialsOptions files;
  files.pem_root_certs = Read(folder + "ca.pem");
  files.pem_private_key = Read(folder + who + ".key");
  files.pem_cert_chain = Read(folder + who + ".pem");
  const std::string target =
      Environment("TOKEN_BROKER_ENDPOINT").substr(std::string("https://").size());
  return pb::TokenBroker::NewStub(grpc::CreateChannel(target, grpc::SslCredentials(files)));
}

std::string CodeName(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::OK: return "OK";
    case grpc::StatusCode::CANCELLED: return "CANCELLED";
    case grpc::StatusCode::INVALID_ARGUMENT: return "INVALID_ARGUMENT";
    case grpc::StatusCode::DEADLINE_EXCEEDED: return "DEADLINE_EXCEEDED";
    case grpc::StatusCode::PERMISSION_DENIED: return "PERMISSION_DENIED";
    case grpc::StatusCode::UNAUTHENTICATED: return "UNAUTHENTICATED";
    case grpc::StatusCode::RESOURCE_EXHAUSTED: return "RESOURCE_EXHAUSTED";
    case grpc::StatusCode::FAILED_PRECONDITION: return "FAILED_PRECONDITION";
    case grpc::StatusCode::UNAVAILABLE: return "UNAVAILABLE";
    default: return "code " + std::to_string(code);
  }
}

std::string Described(const grpc::Status& status) {
  std::string reason = "-", retry = "-";
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  for (const auto& detail : details.details()) {
    google::rpc::ErrorInfo info;
    if (detail.UnpackTo(&info)) {
      reason = info.domain() == "tokenbroker" ? info.reason() : "not ours: " + info.domain();
    }
    if (detail.Is<google::rpc::RetryInfo>()) retry = "retry";
  }
  return CodeName(status.error_code()) + " " + reason + " " + retry;
}

void Within(grpc::ClientContext& context, int millis) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(millis));
}

class Call {
 public:
  Call(const std::string& who, std::string destination, std::string argument)
      : stub_(Connect(who)), destination_(std::move(destination)), argument_(std::move(argument)) {}

  std::string Make(const std::string& method) {
    if (method == "get") return Get();
    if (method == "get-within") return Ask(std::stoi(argument_));
    if (method == "get-for-ever") return Ask(std::nullopt);
    if (method == "get-often") return GetOften();
    if (method == "get-at-once") return GetAtOnce();
    if (method == "watch") return Watch();
    if (method == "watch-within") {
      return Events(std::stoi(argument_), [](const auto&) { return "an event"; });
    }
    if (method == "watch-trouble") return Events(kPatience, Trouble);
    if (method == "report") return Report();
    return "unknown method";
  }

 private:
  using OutcomeOf = std::function<std::optional<std::string>(const pb::WatchTokenResponse&)>;

  std::string Get() {
    grpc::ClientContext context;
    Within(context, kPatience);
    pb::GetTokenRequest request;
    request.set_destination_id(destination_);
    if (argument_ != "-") request.mutable_min_validity()->set_seconds(std::stoll(argument_));
    pb::GetTokenResponse token;
    const grpc::Status status = stub_->GetToken(&context, request, &token);
    if (!status.ok()) return Described(status);
    const bool whole = !token.access_token().empty() && !token.token_id().empty() &&
                       token.expires_in().seconds() > 0;
    return whole ? "OK " + token.token_type() : "incomplete";
  }

  std::string Ask(std::optional<int> millis, pb::GetTokenResponse* token = nullptr) {
    grpc::ClientContext context;
    if (millis) Within(context, *millis);
    pb::GetTokenRequest request;
    request.set_destination_id(destination_);
    pb::GetTokenResponse unused;
    const auto status = stub_->GetToken(&context, request, token != nullptr ? token : &unused);
    return status.ok() ? "OK" : Described(status);
  }

  std::string GetOften() {
    for (int n = 0; n < std::stoi(argument_); n++) {
      const std::string answer = Ask(kPatience);
      if (answer != "OK") return answer;
    }
    return "OK";
  }

  std::string GetAtOnce() {
    std::vector<std::future<std::string>> calls;
    for (int n = 0; n < std::stoi(argument_); n++) {
      calls.push_back(std::async(std::launch::async, [this] { return Ask(kPatience); }));
    }
    std::string outcome = "OK";
    for (auto& call : calls) {
      const std::string answer = call.get();
      if (answer.rfind("DEADLINE", 0) != 0) outcome = answer;
    }
    return outcome;
  }

  // Reads events until one of them gives an outcome.
  std::string Events(int millis, const OutcomeOf& outcome_of) {
    grpc::ClientContext context;
    Within(context, millis);
    pb::WatchTokenRequest request;
    request.set_destination_id(destination_);
    const auto stream = stub_->WatchToken(&context, request);
    pb::WatchTokenResponse event;
    while (stream->Read(&event)) {
      if (const auto outcome = outcome_of(event)) {
        context.TryCancel();
        stream->Finish();
        return *outcome;
      }
    }
    const grpc::Status status = stream->Finish();
    return status.ok() ? "the end" : Described(status);
  }

  std::string Watch() {
    std::multiset<std::string> ids;
    return Events(kPatience, [&](const pb::WatchTokenResponse& event) -> std::optional<std::string> {
      if (!event.has_token()) return event.unavailable().reason();
      ids.insert(event.token().token_id());
      if (ids.size() != std::stoul(argument_)) return std::nullopt;
      return "OK " + std::to_string(std::set<std::string>(ids.begin(), ids.end()).size());
    });
  }

  static std::optional<std::string> Trouble(const pb::WatchTokenResponse& event) {
    if (event.has_token()) return "a token";
    const std::string retry = event.unavailable().has_retry_delay() ? "retry" : "-";
    return "IN_BAND " + event.unavailable().reason() + " " + retry;
  }

  std::string Report() {
    pb::GetTokenResponse first;
    const std::string got = Ask(kPatience, &first);
    if (got != "OK") return got;
    const std::string outcome = Told(first.token_id());
    return Events(kPatience, [&](const pb::WatchTokenResponse& event) -> std::optional<std::string> {
      const std::string successor = event.token().token_id();
      if (successor.empty() || successor == first.token_id()) return std::nullopt;
      return outcome + " " + Told(first.token_id()) + " " + Told(successor);
    });
  }

  std::string Told(const std::string& token_id) {
    grpc::ClientContext context;
    Within(context, kPatience);
    pb::ReportRejectedRequest request;
    request.set_destination_id(destination_);
    request.set_token_id(token_id);
    pb::ReportRejectedResponse reply;
    const grpc::Status status = stub_->ReportRejected(&context, request, &reply);
    if (!status.ok()) return Described(status);
    return pb::ReportOutcome_Name(reply.outcome()).substr(std::string("REPORT_OUTCOME_").size());
  }

  std::unique_ptr<pb::TokenBroker::Stub> stub_;
  std::string destination_;
  std::string argument_;
};

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string name, who, method, destination, argument;
    words >> name >> who >> method >> destination >> argument;
    std::cout << name << " " << Call(who, destination, argument).Make(method) << std::endl;
  }
}
