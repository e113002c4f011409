// What indexing a watched pointer yields: a number that is read and written through the pointer.

#pragma once

namespace emu {

template <class Pointer, class T>
class Element {
 public:
  explicit Element(Pointer at) : at_(at) {}
  Element(const Element&) = default;
  operator T() const { return at_.read(); }
  const Element& operator=(const T& value) const {
    at_.write(value);
    return *this;
  }
  const Element& operator=(const Element& other) const { return *this = static_cast<T>(other); }
  const Element& operator+=(const T& value) const { return *this = at_.read() + value; }
  const Element& operator-=(const T& value) const { return *this = at_.read() - value; }
  const Element& operator*=(const T& value) const { return *this = at_.read() * value; }
  Pointer operator&() const { return at_; }

 private:
  Pointer at_;
};

}  // namespace emu
