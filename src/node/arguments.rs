//! Reading what JavaScript passed, with an error that names the argument where that is not what it must be.

use std::path::PathBuf;

use napi::bindgen_prelude::{Either, JsObjectValue, JsValue, Object, Unknown, Utf16String};
use napi::{Env, JsString, ValueType, sys};

use crate::attestation::spec::Optional;
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::text::Text;

/// A string on its way to JavaScript.
pub(super) type JsText = Either<String, Utf16String>;

/// Turns a string into one of JavaScript.
pub(super) fn js_text(text: &Text) -> JsText {
    match text.as_str() {
        Some(text) => Either::A(text.to_owned()),
        None => Either::B(text.to_utf16().into()),
    }
}

/// Reads a string.
pub(super) fn text(value: Unknown<'_>, argument: &'static str) -> Result<Text> {
    read_string(&value).ok_or_else(|| invalid(argument, "a string", value))
}

/// Reads a string that has at least one character.
pub(super) fn non_empty_text(value: Unknown<'_>, argument: &'static str) -> Result<Text> {
    let expected = "a string that is not empty";
    match text(value, argument) {
        Ok(text) if text.is_empty() => {
            Err(Error::InvalidArgument { argument, expected, actual: "an empty string".to_owned() })
        }
        Err(_) => Err(invalid(argument, expected, value)),
        text => text,
    }
}

/// Reads the path of a file or folder.
pub(super) fn path(value: Unknown<'_>, argument: &'static str) -> Result<PathBuf> {
    let expected = "a path";
    let text = non_empty_text(value, argument).map_err(|_| invalid(argument, expected, value))?;
    match text.as_str() {
        Some(path) if !path.contains('\0') => Ok(PathBuf::from(path)),
        _ => Err(Error::InvalidArgument {
            argument,
            expected,
            actual: "a string that no file name can hold".to_owned(),
        }),
    }
}

/// Reads a phase that can be part of a baseline's key.
pub(super) fn phase(value: Unknown<'_>, argument: &'static str) -> Result<Text> {
    let phase = text(value, argument)?;
    if crate::attestation::baseline::is_valid_phase(&phase) {
        return Ok(phase);
    }
    let expected = "a phase without a colon";
    Err(Error::InvalidArgument { argument, expected, actual: "one with a colon".to_owned() })
}

/// Reads true or false.
pub(super) fn boolean(value: Unknown<'_>, argument: &'static str) -> Result<bool> {
    match (kind(&value), value.coerce_to_bool()) {
        (ValueType::Boolean, Ok(boolean)) => Ok(boolean),
        _ => Err(invalid(argument, "true or false", value)),
    }
}

/// Reads a number for which `accepted` holds.
pub(super) fn number(
    value: Unknown<'_>,
    argument: &'static str,
    expected: &'static str,
    accepted: impl Fn(f64) -> bool,
) -> Result<f64> {
    let wrong = || invalid(argument, expected, value);
    if kind(&value) != ValueType::Number {
        return Err(wrong());
    }
    let number = value.coerce_to_number().and_then(|number| number.get_double()).map_err(|_| wrong())?;
    if accepted(number) { Ok(number) } else { Err(wrong()) }
}

/// Reads a whole number from 0 on.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be whole and in range"
)]
pub(super) fn whole_number(value: Unknown<'_>, argument: &'static str) -> Result<u64> {
    /// The last of the whole numbers that JavaScript can tell apart.
    const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;
    let expected = "a whole number from 0 on";
    let number = number(value, argument, expected, |number| {
        number.fract() == 0.0 && (0.0..=MAX_SAFE_INTEGER).contains(&number)
    })?;
    Ok(number as u64)
}

/// Reads what an acknowledged change is to survive.
pub(super) fn durability(value: Unknown<'_>, argument: &'static str) -> Result<Durability> {
    let expected = "'process' or 'sync'";
    match text(value, argument).ok().as_ref().and_then(Text::as_str) {
        Some("process") => Ok(Durability::Process),
        Some("sync") => Ok(Durability::PowerCut),
        _ => Err(invalid(argument, expected, value)),
    }
}

/// Reads the options that only say what changes are to survive.
pub(super) fn storage_options(options: Option<Unknown<'_>>) -> Result<Durability> {
    Ok(Fields::optional(options, "options")?.read("durability", durability)?.unwrap_or_default())
}

/// Reads a number of milliseconds, rounded up; at most 100 years, and so does more.
#[allow(clippy::cast_possible_truncation, reason = "at most LONGEST")]
pub(super) fn duration_ms(value: Unknown<'_>, argument: &'static str) -> Result<i64> {
    const LONGEST: f64 = 3_153_600_000_000.0;
    let ms = number(value, argument, "a number of milliseconds from 0 on", |number| number >= 0.0)?;
    Ok(ms.ceil().min(LONGEST) as i64)
}

/// Reads a list.
pub(super) fn list<'env>(
    value: Unknown<'env>,
    argument: &'static str,
    expected: &'static str,
) -> Result<Vec<Unknown<'env>>> {
    if kind(&value) != ValueType::Object || !value.is_array().unwrap_or(false) {
        return Err(invalid(argument, expected, value));
    }
    let wrong = |_| invalid(argument, expected, value);
    let list = value.coerce_to_object().map_err(wrong)?;
    let length = list.get_array_length().map_err(wrong)?;
    (0..length)
        .map(|position| {
            list.get_element(position).map_err(|error| {
                forget_exception(&list);
                wrong(error)
            })
        })
        .collect()
}

/// Reads a list of strings.
pub(super) fn text_list(value: Unknown<'_>, argument: &'static str) -> Result<Vec<Text>> {
    let expected = "a list of strings";
    list(value, argument, expected)?
        .into_iter()
        .map(|element| {
            text(element, argument).map_err(|_| Error::InvalidArgument {
                argument,
                expected,
                actual: format!("a list with {} in it", describe(element)),
            })
        })
        .collect()
}

/// An object whose fields are read one by one. Fields that are not asked for don't matter.
pub(super) struct Fields<'env>(Option<Object<'env>>);

impl<'env> Fields<'env> {
    /// Reads an object that must be there.
    pub(super) fn required(value: Unknown<'env>, argument: &'static str) -> Result<Self> {
        match kind(&value) {
            ValueType::Object | ValueType::Function if !value.is_array().unwrap_or(false) => {
                let object = value.coerce_to_object();
                Ok(Self(Some(object.map_err(|_| invalid(argument, "an object", value))?)))
            }
            _ => Err(invalid(argument, "an object", value)),
        }
    }

    /// Reads an object that may be undefined or left out: then it has no fields.
    pub(super) fn optional(value: Option<Unknown<'env>>, argument: &'static str) -> Result<Self> {
        match value {
            Some(value) if kind(&value) != ValueType::Undefined => Self::required(value, argument),
            _ => Ok(Self(None)),
        }
    }

    /// A field as it is, undefined if it is not there.
    pub(super) fn get(&self, name: &'static str) -> Result<Option<Unknown<'env>>> {
        let Some(object) = &self.0 else { return Ok(None) };
        let value: Unknown<'env> = object.get_named_property(name).map_err(|_| {
            forget_exception(object);
            Error::InvalidArgument { argument: name, expected: "readable", actual: "an exception".to_owned() }
        })?;
        Ok((kind(&value) != ValueType::Undefined).then_some(value))
    }

    /// A field that `read` reads, unless it is undefined.
    pub(super) fn read<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(Unknown<'env>, &'static str) -> Result<T>,
    ) -> Result<Option<T>> {
        self.get(name)?.map(|value| read(value, name)).transpose()
    }

    /// A field that `read` reads and that must be there.
    pub(super) fn read_required<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        read: impl FnOnce(Unknown<'env>, &'static str) -> Result<T>,
    ) -> Result<T> {
        self.read(name, read)?.ok_or_else(|| Error::InvalidArgument {
            argument: name,
            expected,
            actual: "undefined".to_owned(),
        })
    }

    /// A string that may also be null or left out.
    pub(super) fn nullable_text(&self, name: &'static str) -> Result<Optional> {
        match self.get(name)? {
            None => Ok(Optional::Absent),
            Some(value) if kind(&value) == ValueType::Null => Ok(Optional::Null),
            Some(value) => text(value, name).map(Optional::Text),
        }
    }
}

/// Whether this thread still runs JavaScript: one that is being ended reads no properties.
pub(super) fn runs_javascript(env: &Env) -> bool {
    Object::new(env).is_ok_and(|object| object.has_named_property("any").is_ok())
}

/// Drops what a getter of the caller's object has thrown: it would else be thrown at the end of the call.
#[allow(unsafe_code, reason = "napi has no safe call for this")]
fn forget_exception(object: &Object<'_>) {
    let mut exception = std::ptr::null_mut();
    // SAFETY: the object belongs to the environment of this thread, and the pointer is valid for the write.
    let _ = unsafe { sys::napi_get_and_clear_last_exception(object.value().env, &raw mut exception) };
}

fn kind(value: &Unknown<'_>) -> ValueType {
    value.get_type().unwrap_or(ValueType::Unknown)
}

/// The string that a value is, if it is one.
#[allow(
    unsafe_code,
    reason = "napi's safe calls for this ask JavaScript five times, and strings are what most calls are made of"
)]
fn read_string(value: &Unknown<'_>) -> Option<Text> {
    /// As long as most strings are.
    const SHORT: usize = 600;
    let mut units = [0_u16; SHORT];
    let mut length = 0;
    let string = value.value();
    // SAFETY: the value belongs to the environment of this thread, and no more is written than there is room for.
    let status = unsafe {
        sys::napi_get_value_string_utf16(string.env, string.value, units.as_mut_ptr(), SHORT, &raw mut length)
    };
    if status != sys::Status::napi_ok {
        return None;
    }
    // One unit is a terminator. If there is no room left, there may be more.
    if length < SHORT - 1 {
        return Some(Text::from_utf16(&units[..length]));
    }
    let units = value.coerce_to_string().and_then(JsString::into_utf16).ok()?;
    let (_, units) = units.as_slice().split_last()?;
    Some(Text::from_utf16(units))
}

/// The error for an argument that is something else than expected.
pub(super) fn invalid(argument: &'static str, expected: &'static str, value: Unknown<'_>) -> Error {
    Error::InvalidArgument { argument, expected, actual: describe(value) }
}

/// Says what a value is, without its content where that may be long or private.
fn describe(value: Unknown<'_>) -> String {
    match kind(&value) {
        ValueType::Undefined => "undefined".to_owned(),
        ValueType::Null => "null".to_owned(),
        ValueType::Boolean => {
            value.coerce_to_bool().map_or_else(|_| "a boolean".to_owned(), |b| b.to_string())
        }
        ValueType::Number => value
            .coerce_to_number()
            .and_then(|number| number.get_double())
            .map_or_else(|_| "a number".to_owned(), |number| ryu_js::Buffer::new().format(number).to_owned()),
        ValueType::String if read_string(&value).is_some_and(|text| text.is_empty()) => {
            "an empty string".to_owned()
        }
        ValueType::String => "a string".to_owned(),
        ValueType::Object if value.is_array().unwrap_or(false) => "a list".to_owned(),
        ValueType::Object => "an object".to_owned(),
        ValueType::Function => "a function".to_owned(),
        ValueType::Symbol => "a symbol".to_owned(),
        ValueType::BigInt => "a bigint".to_owned(),
        ValueType::External | ValueType::Unknown => "something else".to_owned(),
    }
}
