//! Reading the members of a request, and the rules that SageMaker has for them.

use serde_json::Value;

use crate::protocol::ApiError;

/// Longest name of a resource.
const MAX_NAME: usize = 63;

/// A member of the request that must be there.
pub(crate) fn required<'a>(request: &'a Value, member: &str) -> Result<&'a Value, ApiError> {
    match &request[member] {
        Value::Null => Err(problem(member, "Member must not be null")),
        value => Ok(value),
    }
}

/// A text that must be there.
pub(crate) fn text<'a>(request: &'a Value, member: &str) -> Result<&'a str, ApiError> {
    let value = required(request, member)?;
    value.as_str().ok_or_else(|| ApiError::new(400, "SerializationException", "not a string"))
}

/// The name of a resource that must be there and be a valid one.
pub(crate) fn name<'a>(request: &'a Value, member: &str) -> Result<&'a str, ApiError> {
    let name = text(request, member)?;
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    if bytes.len() > MAX_NAME {
        return Err(problem(member, "Member must have length less than or equal to 63"));
    }
    let inside = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    if !inside || !ends_well(bytes.first()) || !ends_well(bytes.last()) {
        let pattern = "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}";
        let rule = format!("Member must satisfy regular expression pattern: {pattern}");
        return Err(problem(member, &rule));
    }
    Ok(name)
}

/// The ARN of a role that must be there.
pub(crate) fn role(request: &Value, member: &str) -> Result<(), ApiError> {
    let arn = text(request, member)?;
    let parts: Vec<&str> = arn.split(':').collect();
    let fits = matches!(parts.as_slice(), ["arn", partition, "iam", "", account, role]
        if partition.starts_with("aws")
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && role.starts_with("role/"));
    if fits { Ok(()) } else { Err(problem(member, "Member must be the ARN of a role")) }
}

/// A value that breaks a rule.
pub(crate) fn problem(member: &str, rule: &str) -> ApiError {
    ApiError::validation(format!(
        "1 validation error detected: Value at '{member}' failed to satisfy constraint: {rule}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_roles_are_judged() {
        for (value, good) in [
            (json!("a-1"), true),
            (json!("a_1"), false),
            (json!("-a"), false),
            (json!("x".repeat(64)), false),
            (json!(7), false),
            (Value::Null, false),
        ] {
            assert_eq!(name(&json!({"Name": value}), "Name").is_ok(), good, "{value}");
        }
        for (arn, good) in [
            ("arn:aws:iam::123456789012:role/mloop", true),
            ("arn:aws:iam::12345:role/mloop", false),
            ("mloop", false),
        ] {
            assert_eq!(role(&json!({"Role": arn}), "Role").is_ok(), good, "{arn}");
        }
    }
}
