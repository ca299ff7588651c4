// A client that speaks plain gRPC with a server whose only model is "tiny", and what tests ask of
// it.
//
// Errors of a call come back as grpc::Status; helpers that a test cannot go on without fail it and
// return something empty. One thread at a time, except that Call() and the stubs may be used from
// any.
#pragma once

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/operation.h"  // MetadataOf
#include "google/longrunning/operations.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "secateur/v1/operation.pb.h"
#include "secateur/v1/secateur.grpc.pb.h"
#include "tests/support/eventually.h"

namespace secateur {

namespace lro = google::longrunning;

// What an error says in its details.
struct RpcError {
  grpc::StatusCode code = grpc::OK;
  std::string message, reason, domain, field, resource;
  std::string quota;          // subject of QuotaFailure
  bool retry = false;         // RetryInfo
  bool precondition = false;  // PreconditionFailure
};
RpcError ErrorOf(const grpc::Status& status);
RpcError ErrorOf(const google::rpc::Status& status);

// "Code, reason": IsError(grpc::NOT_FOUND, "NOT_FOUND"). Prints the whole error when it does not
// match.
MATCHER_P2(IsError, code, reason, "") {
  const RpcError error = ErrorOf(arg);
  *result_listener << "which is code " << error.code << ", reason " << error.reason << ", field \""
                   << error.field << "\": " << error.message;
  return error.code == code && error.reason == reason && error.domain == "secateur.dev";
}
MATCHER_P(Succeeds, unused, "is OK") {
  *result_listener << "which is code " << arg.error_code() << ": " << arg.error_message();
  return arg.ok();
}
#define EXPECT_RPC_OK(expr) EXPECT_THAT(expr, ::secateur::Succeeds(0))
#define ASSERT_RPC_OK(expr) ASSERT_THAT(expr, ::secateur::Succeeds(0))

// JSON Lines of `count` short documents about `theme`, different for each theme.
std::string JsonLines(int count, const std::string& theme);

using LabelMap = std::map<std::string, std::string>;

// What a client sends to upload `text`.
std::vector<v1::UploadCorpusRequest> UploadMessages(const LabelMap& labels, const std::string& text,
                                                    v1::CorpusPurpose purpose = v1::CALIBRATION);

class PlainClient {
 public:
  using Stub = v1::Secateur::Stub;

  Stub& stub() { return *stub_; }
  lro::Operations::Stub& operations() { return *operations_; }
  std::shared_ptr<grpc::Channel> channel() { return channel_; }
  // Closes the connection, for which a drain waits else.
  void HangUp();

  // Calls `Method` of the service once.
  template <class Request, class Response>
  grpc::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    return ((*stub_).*method)(&context, request, response);
  }

  grpc::Status Upload(const std::vector<v1::UploadCorpusRequest>& messages,
                      v1::UploadCorpusResponse* response);
  // A corpus that must be taken.
  v1::Corpus Upload(const LabelMap& labels, const std::string& text,
                    v1::CorpusPurpose purpose = v1::CALIBRATION);
  // Also its profiles.
  grpc::Status DeleteCorpus(const std::string& name);
  // Waits until the operation is done.
  lro::Operation Wait(const lro::Operation& operation);
  // Profiles every calibration corpus.
  void ProfileAll();
  grpc::Status Create(const v1::CreateExpertRequest& request, lro::Operation* operation);
  // Makes an expert that must come out.
  v1::Expert Make(const v1::CreateExpertRequest& request);
  lro::Operation GetOperation(const std::string& name);
  // True once it runs and shows progress, in `phase` if one is given; false if it does not within a
  // minute.
  bool HasProgress(const std::string& name, const std::string& phase = "");
  grpc::Status Cancel(const std::string& name);
  // Every message of WatchOperation.
  std::vector<lro::Operation> Watch(const std::string& name);
  // The bytes of a file, and what the stream said about it first.
  grpc::Status Download(const std::string& expert, const std::string& file, int64_t offset,
                        std::string* bytes, v1::ExpertFile* about = nullptr);

 protected:
  // Waits until experts can be made.
  void Connect(int port, const std::shared_ptr<grpc::ChannelCredentials>& credentials);

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<Stub> stub_;
  std::unique_ptr<lro::Operations::Stub> operations_;
};

template <class Message>
Message ResponseOf(const lro::Operation& operation) {
  Message message;
  EXPECT_TRUE(operation.has_response()) << operation.DebugString();
  EXPECT_TRUE(operation.response().UnpackTo(&message)) << operation.DebugString();
  return message;
}

// Of every calibration corpus.
v1::CreateProfileRequest ProfileAll(const std::string& request_id = "");
// Of English text, by relevance alone.
v1::CreateExpertRequest EnglishRequest(double neuron_ratio = 0.25);

// Of language=en, domain=law with a quarter of the neurons removed.
v1::CreateExpertRequest LawRequest(double neuron_ratio = 0.25);
// SHA-256 of each file by its name, as the expert says.
std::map<std::string, std::string> DigestsOf(const v1::Expert& expert);

}  // namespace secateur
