//! Lines of a journal as JavaScript objects, with whatever fields they have.

use napi::Env;
use napi::bindgen_prelude::{Function, JsObjectValue, Object, ToNapiValue, TypeName, Unknown, ValueType};
use napi::sys;

/// JSON text that becomes, by `JSON.parse`, the value it describes.
pub struct Json(pub(super) String);

/// A list of the objects that these lines hold.
pub(super) fn parse_lines(lines: &[Vec<u8>]) -> Json {
    let mut json = String::from("[");
    for (position, line) in lines.iter().enumerate() {
        if position > 0 {
            json.push(',');
        }
        json.push_str(&String::from_utf8_lossy(line));
    }
    json.push(']');
    Json(json)
}

impl TypeName for Json {
    fn type_name() -> &'static str {
        "JSON"
    }

    fn value_type() -> ValueType {
        ValueType::Unknown
    }
}

#[allow(unsafe_code, reason = "a trait of napi whose method is unsafe")]
impl ToNapiValue for Json {
    // SAFETY: the caller guarantees that `env` is that of the current thread, as the trait demands.
    unsafe fn to_napi_value(raw_env: sys::napi_env, json: Self) -> napi::Result<sys::napi_value> {
        let env = Env::from_raw(raw_env);
        let namespace: Object<'_> = env.get_global()?.get_named_property("JSON")?;
        let parse: Function<'_, String, Unknown<'_>> = namespace.get_named_property("parse")?;
        let value = parse.call(json.0)?;
        // SAFETY: as above.
        unsafe { Unknown::to_napi_value(raw_env, value) }
    }
}
