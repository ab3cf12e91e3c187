//! Makes bodies ready to be published: tuple ids that stay, versions that count.
use crate::host::xml::XmlDocument;
use crate::pua::error::RequestError;
use crate::pua::event::Processed;

fn bad(why: &str) -> RequestError {
    RequestError::BadBody(why.into())
}

/// PIDF: the first tuple has an id (`known` or a `fresh` one where the body has none), and so has the person.
///
/// # Errors
///
/// Fails with `BadBody` when the body is no XML, has no tuple, or its tuple takes no id.
pub fn with_tuple_id(body: &[u8], known: &[u8], fresh: impl FnOnce() -> Vec<u8>) -> Result<Processed, RequestError> {
    let document = XmlDocument::parse(body).ok_or_else(|| bad("it is no XML"))?;
    let tuple = document.find("tuple").ok_or_else(|| bad("no tuple in it"))?;
    let id = match tuple.attribute("id") {
        Some(id) => id,
        None => {
            let id = if known.is_empty() { fresh() } else { known.to_vec() };
            if !tuple.set("id", &id) {
                return Err(bad("no id can be set"));
            }
            id
        }
    };
    if let Some(person) = document.find("person").filter(|person| person.attribute("id").is_none()) {
        person.set("id", &id);
    }
    let body = document.to_text().ok_or_else(|| bad("it cannot be written"))?;
    let tuple_id = if known.is_empty() { id } else { known.to_vec() };
    Ok(Processed { body, tuple_id })
}

/// The version attribute of `element` says `version`.
///
/// # Errors
///
/// Fails with `BadBody` when the body is no XML, has no such element, or the element takes no attribute.
pub fn with_version(body: &[u8], element: &str, version: u32) -> Result<Processed, RequestError> {
    let document = XmlDocument::parse(body).ok_or_else(|| bad("it is no XML"))?;
    let node = document.find(element).ok_or_else(|| bad(&format!("no {element} in it")))?;
    if !node.set("version", version.to_string().as_bytes()) {
        return Err(bad("no version can be set"));
    }
    let body = document.to_text().ok_or_else(|| bad("it cannot be written"))?;
    Ok(Processed { body, tuple_id: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_without_an_id_gets_the_one_it_had() {
        let body = b"<presence><tuple><status/></tuple><person/></presence>";
        let first = with_tuple_id(body, b"", || b"t1".to_vec()).unwrap();
        assert_eq!(first.tuple_id, b"t1");
        let again = with_tuple_id(body, b"t1", || b"t2".to_vec()).unwrap();
        assert_eq!(first.body, again.body);
        assert!(String::from_utf8(first.body).unwrap().contains("<person id=\"t1\""));
    }

    #[test]
    fn a_body_that_is_none_is_refused() {
        assert!(with_tuple_id(b"no xml", b"", Vec::new).is_err());
        assert!(with_tuple_id(b"<presence/>", b"", Vec::new).is_err());
        assert!(with_version(b"<dialog-info/>", "reginfo", 1).is_err());
    }
}
