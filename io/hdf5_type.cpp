#include "io/hdf5_type.hpp"

#include <fmt/format.h>

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

}  // namespace

std::optional<DType> number_type(hid_t type) {
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

UniqueType memory_type(hid_t file_type) {
  const bool is_enum = H5Tget_class(file_type) == H5T_ENUM;
  UniqueType type(H5Tcopy(file_type));
  if (!is_enum && H5Tget_size(type.get()) > 1) H5Tset_order(type.get(), H5T_ORDER_LE);
  return type;
}

hid_t file_type(DType dtype) {
  switch (dtype) {
    case DType::u8:
      return H5T_STD_U8LE;
    case DType::i64:
      return H5T_STD_I64LE;
    case DType::f32:
      return H5T_IEEE_F32LE;
    case DType::f64:
      return H5T_IEEE_F64LE;
    default:
      throw Error(ErrorKind::bug, fmt::format("HDF5 is not written as {}", name_of(dtype)));
  }
}

}  // namespace hadal::io
