// Every counter, gauge and histogram of the service, declared once and held as members; parts of
// the service get a Metrics& and count with one call. Names follow Prometheus' rules: base units,
// _total for counters.
//
// Label values come from small fixed sets (methods, codes, states, types) or from the operator
// (model names), never from requests: each new value is a time series that is kept for ever.
// Thread-safe; outlives all that count into it.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace secateur {

struct Metrics {
  template <class T>
  using Family = prometheus::Family<T>;
  using Counter = prometheus::Counter;
  using Gauge = prometheus::Gauge;
  using Histogram = prometheus::Histogram;

  // `version` is the program's, for secateur_build_info.
  explicit Metrics(std::string_view version);
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // All values in Prometheus' text format, those of the process as they are now.
  std::string Scrape();

  // Helpers for what has labels.
  // A finished RPC: `method` is "CreateExpert" and the like.
  void CountRpc(std::string_view method, absl::StatusCode code, double seconds);
  // `type` is "CreateExpert" and the like; `state` is what it ended as: "succeeded", "failed" or
  // "cancelled".
  void OperationStarted(std::string_view type);
  void OperationEnded(std::string_view type, std::string_view state, double seconds);
  // `phase` as in Progress: "measure", "verify" and the like.
  void OperationPhaseEnded(std::string_view type, std::string_view phase, double seconds);
  // Another process goes on with it.
  void OperationLeft(std::string_view type);
  // `reason` is an ErrorInfo reason that the server itself gives: "QUEUE_FULL", "STORE_FULL",
  // "DRAINING", "QUEUE_DEADLINE" and those of Admission; "" counts as "STORE".
  void OperationRefused(std::string_view type, std::string_view reason);
  // `operation` is "read", "write", "head", "list", "delete" or "check"; `direction` is "read" or
  // "write".
  void CountStore(std::string_view operation, absl::StatusCode code, double seconds);
  void CountStoreBytes(std::string_view direction, int64_t bytes);
  void SetModelResidentBytes(std::string_view model, int64_t bytes);
  // `kind` is "profile", "corpus", "manifest" and the like.
  void CountCorruptObject(std::string_view kind);

  prometheus::Registry registry;

  Family<Counter>& rpc_requests;                // method, code
  Family<Histogram>& rpc_duration;              // method
  Family<Counter>& operations;                  // type, state; counted when they end
  Family<Histogram>& operation_duration;        // type
  Family<Histogram>& operation_phase_duration;  // type, phase
  Family<Gauge>& operations_active;             // type
  Counter& operations_adopted;
  Family<Counter>& operations_refused;  // type, reason
  Gauge& reserved_memory;               // bytes
  Gauge& reserved_disk;                 // bytes
  Gauge& job_queue_length;
  Histogram& job_queue_wait;
  Counter& profile_tokens;
  Histogram& profile_duration;  // of one corpus
  Histogram& compose_duration;
  Counter& expert_bytes_written;
  Counter& expert_cache_hits;
  Counter& profile_cache_hits;
  Family<Counter>& store_requests;    // operation, code
  Family<Histogram>& store_duration;  // operation
  Family<Counter>& store_bytes;       // direction
  Gauge& store_hanging_calls;
  Histogram& model_load_duration;
  Family<Gauge>& model_resident_bytes;  // model
  Family<Counter>& corrupt_objects;     // kind

 private:
  Gauge& process_resident_memory_;
};

}  // namespace secateur
