// The emulator's controls, for the Python modules that are built with it.

#pragma once

#include <pybind11/pybind11.h>

namespace emu {

void bind_controls(pybind11::module_& module);

}  // namespace emu
