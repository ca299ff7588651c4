// A tiny model in memory, and the folder it was read from for as long.
#pragma once

#include <memory>
#include <string>

#include "server/model/compute_threads.h"
#include "server/pipeline/resident_models.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {

struct TinyResident {
  explicit TinyResident(const TinyModel& tiny = FindTinyModel("llama_gqa"), int threads = 1) {
    SetComputeThreads(threads);  // tests share the machine
    EXPECT_OK(WriteTinyModel(tiny, folder.path()));
    const auto opened = ModelFolder::Open(folder.path());
    EXPECT_OK(opened);
    RunContext context;
    auto loaded = ResidentModel::Load("tiny", *opened, Device{}, context);
    EXPECT_OK(loaded);
    model = *std::move(loaded);
    EXPECT_OK(model->WaitForDigest(context));
  }

  const TempDir folder;
  std::shared_ptr<ResidentModel> model;
};

}  // namespace secateur
