// The library of emulated ops as a Python module: importing it registers the ops, and it holds
// the controls of the emulator that runs them.

#include "controls.h"

PYBIND11_MODULE(digan_emulated, module) {
  emu::bind_controls(module);
}
