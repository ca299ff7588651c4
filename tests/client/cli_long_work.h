// Commands that begin long work: the fake server has one model, and operations end as told.
#pragma once

#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>

#include <string>

#include "tests/client/cli_runner.h"

namespace secateur::cli {

inline constexpr char kOperation[] = "operations/o1";

template <class Message>
Message FromText(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

inline void ExpectSame(const google::protobuf::Message& found,
                       const google::protobuf::Message& wanted) {
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(found, wanted))
      << found.DebugString() << "where this was wanted:\n"
      << wanted.DebugString();
}

class LongWorkCliTest : public CliTest {
 protected:
  LongWorkCliTest() {
    server_.secateur.models = {ModelNamed("models/m")};
    server_.secateur.started.set_name(kOperation);
  }
  // The operation ends like this, after a word of progress.
  void EndWith(const Operation& end) {
    server_.secateur.watch = [end](int, auto&, FakeSecateur::WatchWriter& writer) {
      v1::WatchOperationResponse response;
      *response.mutable_operation() = RunningOperation(kOperation, "profile", 0.5);
      writer.Write(response);
      writer.Write(response);  // a heartbeat
      *response.mutable_operation() = end;
      writer.Write(response);
      return grpc::Status::OK;
    };
  }
};

inline v1::Expert TheExpert() {
  return FromText<v1::Expert>(R"(
      name: "models/m/experts/e1"
      spec { select { key: "language" values: "ko" values: "ja" weight: 2 }
             select { key: "task" values: "qa" weight: 1 } rule: RELATIVE_MEAN }
      source: CELL
      size { width: 992 parameter_count: 106000000 tensor_bytes: 212000000 neuron_ratio: 0.3541
             parameter_reduction: 0.211 block_parameter_reduction: 0.267 }
      base_size { width: 1536 parameter_count: 134515008 tensor_bytes: 269030016 }
      verification { token_count: 512 max_layer_error: 1.2e-6 max_logit_error: 3e-6
                     perplexity_ratio: 1.25 generated_token_count: 96 base_repetition_rate: 0.1
                     expert_repetition_rate: 0.125 }
      evaluations { corpus: "corpora/ce" labels { key: "language" value: "ko" } document_count: 8
                    base_bits_per_byte: 1.0 expert_bits_per_byte: 1.1 }
      files { name: "config.json" size_bytes: 2 sha256: "ab" }
      uri: "file:/store/e1")");
}

}  // namespace secateur::cli
