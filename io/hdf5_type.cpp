#include "io/hdf5_type.hpp"

#include <fmt/format.h>

#include <vector>

#include "io/error.hpp"

namespace hadal::io {
namespace {

std::optional<DType> integer_type(std::size_t size, bool is_signed) {
  switch (size) {
    case 1:
      return is_signed ? DType::i8 : DType::u8;
    case 2:
      return is_signed ? DType::i16 : DType::u16;
    case 4:
      return is_signed ? DType::i32 : DType::u32;
    case 8:
      return is_signed ? DType::i64 : DType::u64;
    default:
      return std::nullopt;
  }
}

std::optional<DType> floating_type(hid_t type) {
  std::size_t sign = 0, exponent = 0, exponent_bits = 0, mantissa = 0, mantissa_bits = 0;
  if (H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) < 0) {
    return std::nullopt;
  }
  const std::size_t size = H5Tget_size(type);
  if (size == 2 && exponent_bits == 5 && mantissa_bits == 10) return DType::f16;
  if (size == 2 && exponent_bits == 8 && mantissa_bits == 7) return DType::bf16;
  if (size == 4 && exponent_bits == 8 && mantissa_bits == 23) return DType::f32;
  if (size == 8 && exponent_bits == 11 && mantissa_bits == 52) return DType::f64;
  return std::nullopt;
}

std::optional<DType> scalar_type(hid_t type) {
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
      if (H5Tget_precision(type) != 8 * H5Tget_size(type)) return std::nullopt;
      return integer_type(H5Tget_size(type), H5Tget_sign(type) != H5T_SGN_NONE);
    case H5T_FLOAT:
      return floating_type(type);
    case H5T_ENUM: {
      const UniqueType base(H5Tget_super(type));
      return H5Tget_nmembers(type) == 2 && H5Tget_size(base.get()) == 1
                 ? std::optional(DType::boolean)
                 : std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

std::string member_name(hid_t type, unsigned number) {
  char* const text = H5Tget_member_name(type, number);
  std::string name = text == nullptr ? "" : text;
  H5free_memory(text);
  return name;
}

std::optional<NumberType> element_type(hid_t type);

// Two floats side by side, under one of the pairs of names that are in use.
std::optional<NumberType> complex_type(hid_t type) {
  if (H5Tget_nmembers(type) != 2) return std::nullopt;
  const std::string names = member_name(type, 0) + " " + member_name(type, 1);
  if (names != "r i" && names != "real imag" && names != "re im") return std::nullopt;
  const UniqueType real(H5Tget_member_type(type, 0)), imaginary(H5Tget_member_type(type, 1));
  std::optional<NumberType> number = element_type(real.get());
  const bool fits = number && is_floating(number->dtype) && number->inner.empty() &&
                    H5Tequal(real.get(), imaginary.get()) > 0 &&
                    H5Tget_member_offset(type, 0) == 0 &&
                    H5Tget_member_offset(type, 1) == H5Tget_size(real.get()) &&
                    H5Tget_size(type) == 2 * H5Tget_size(real.get());
  if (!fits) return std::nullopt;
  number->inner = {2};
  return number;
}

std::optional<NumberType> element_type(hid_t type) {
  if (H5Tget_class(type) == H5T_COMPOUND) return complex_type(type);
  if (H5Tget_class(type) == H5T_ARRAY) {
    const UniqueType base(H5Tget_super(type));
    std::optional<NumberType> number = element_type(base.get());
    if (!number) return std::nullopt;
    std::vector<hsize_t> extents(static_cast<std::size_t>(H5Tget_array_ndims(type)));
    H5Tget_array_dims2(type, extents.data());
    number->inner.insert(number->inner.begin(), extents.begin(), extents.end());
    return number;
  }
  const std::optional<DType> dtype = scalar_type(type);
  if (!dtype) return std::nullopt;
  const bool big_endian = H5Tget_class(type) != H5T_ENUM && H5Tget_order(type) == H5T_ORDER_BE;
  return NumberType{.dtype = *dtype, .big_endian = big_endian, .inner = {}};
}

// As h5py stores bool.
hid_t boolean_type() {
  const hid_t type = H5Tenum_create(H5T_STD_I8LE);
  const signed char no = 0, yes = 1;
  H5Tenum_insert(type, "FALSE", &no);
  H5Tenum_insert(type, "TRUE", &yes);
  return type;
}

// Sign, exponent and mantissa in 16 bits: IEEE 754's binary16 and bfloat16.
hid_t small_float(std::size_t exponent_bits) {
  const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
  const std::size_t mantissa_bits = 15 - exponent_bits;
  H5Tset_fields(type, 15, mantissa_bits, exponent_bits, 0, mantissa_bits);
  H5Tset_size(type, 2);
  H5Tset_ebias(type, (std::size_t{1} << (exponent_bits - 1)) - 1);
  return type;
}

UniqueType element_in_memory(hid_t file_type) {
  switch (H5Tget_class(file_type)) {
    case H5T_ARRAY: {
      const UniqueType base(H5Tget_super(file_type));
      const UniqueType element = element_in_memory(base.get());
      std::vector<hsize_t> extents(static_cast<std::size_t>(H5Tget_array_ndims(file_type)));
      H5Tget_array_dims2(file_type, extents.data());
      return UniqueType(
          H5Tarray_create2(element.get(), static_cast<unsigned>(extents.size()), extents.data()));
    }
    case H5T_COMPOUND: {
      UniqueType made(H5Tcreate(H5T_COMPOUND, H5Tget_size(file_type)));
      for (unsigned m = 0; m < 2; ++m) {
        const UniqueType member(H5Tget_member_type(file_type, m));
        const UniqueType element = element_in_memory(member.get());
        H5Tinsert(made.get(), member_name(file_type, m).c_str(), H5Tget_member_offset(file_type, m),
                  element.get());
      }
      return made;
    }
    default: {
      UniqueType type(H5Tcopy(file_type));
      const bool is_enum = H5Tget_class(file_type) == H5T_ENUM;
      if (!is_enum && H5Tget_size(type.get()) > 1) H5Tset_order(type.get(), H5T_ORDER_LE);
      return type;
    }
  }
}

}  // namespace

std::optional<NumberType> number_type(hid_t type, const std::string& column) {
  if (column.empty()) return element_type(type);
  if (H5Tget_class(type) != H5T_COMPOUND) return std::nullopt;
  const int number = H5Tget_member_index(type, column.c_str());
  if (number < 0) return std::nullopt;
  const UniqueType member(H5Tget_member_type(type, static_cast<unsigned>(number)));
  std::optional<NumberType> found = element_type(member.get());
  if (!found) return std::nullopt;
  found->record_bytes = static_cast<std::int64_t>(H5Tget_size(type));
  found->record_offset =
      static_cast<std::int64_t>(H5Tget_member_offset(type, static_cast<unsigned>(number)));
  return found;
}

bool is_heap_type(hid_t object, hid_t type) {
  if (H5Tget_class(type) != H5T_VLEN) return false;
  const UniqueType base(H5Tget_super(type));
  if (H5Tget_class(base.get()) != H5T_INTEGER || H5Tget_size(base.get()) != 1) return false;
  const UniqueFile file(H5Iget_file_id(object));
  const UniqueProperties created(H5Fget_create_plist(file.get()));
  std::size_t addresses = 0, lengths = 0;
  H5Pget_sizes(created.get(), &addresses, &lengths);
  return addresses == 8 && lengths == 8;
}

std::string type_name(hid_t type) {
  switch (H5Tget_class(type)) {
    case H5T_STRING:
      return "a string";
    case H5T_COMPOUND:
      return "a compound";
    case H5T_VLEN:
      return "of variable length";
    case H5T_ENUM:
      return "an enumeration";
    case H5T_ARRAY:
      return "an array type";
    case H5T_REFERENCE:
      return "a reference";
    case H5T_BITFIELD:
      return "a bit field";
    case H5T_OPAQUE:
      return "opaque";
    default:
      return fmt::format("a number of {} bytes in an unusual format", H5Tget_size(type));
  }
}

UniqueType memory_type(hid_t file_type, const std::string& column) {
  if (column.empty()) return element_in_memory(file_type);
  const auto number = static_cast<unsigned>(H5Tget_member_index(file_type, column.c_str()));
  const UniqueType member(H5Tget_member_type(file_type, number));
  const UniqueType element = element_in_memory(member.get());
  UniqueType made(H5Tcreate(H5T_COMPOUND, H5Tget_size(element.get())));
  H5Tinsert(made.get(), column.c_str(), 0, element.get());
  return made;
}

hid_t file_type(DType dtype) {
  static const hid_t boolean = boolean_type();
  static const hid_t half = small_float(/*exponent_bits=*/5);
  static const hid_t brain = small_float(/*exponent_bits=*/8);
  switch (dtype) {
    case DType::boolean:
      return boolean;
    case DType::u8:
      return H5T_STD_U8LE;
    case DType::i8:
      return H5T_STD_I8LE;
    case DType::u16:
      return H5T_STD_U16LE;
    case DType::i16:
      return H5T_STD_I16LE;
    case DType::u32:
      return H5T_STD_U32LE;
    case DType::i32:
      return H5T_STD_I32LE;
    case DType::u64:
      return H5T_STD_U64LE;
    case DType::i64:
      return H5T_STD_I64LE;
    case DType::f16:
      return half;
    case DType::bf16:
      return brain;
    case DType::f32:
      return H5T_IEEE_F32LE;
    case DType::f64:
      return H5T_IEEE_F64LE;
  }
  throw Error(ErrorKind::bug, "a type without a name in HDF5");
}

}  // namespace hadal::io
