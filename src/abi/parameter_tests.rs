//! The parameters of both modules, as the host fills them and as their settings are read.
use crate::host::params::ParameterBlock;
use crate::reference::parameter::{Allowed, Origin, Parameter};
use crate::reference::reading::BadParameter;
use crate::reference::setting::ParameterValue;
use crate::time::Moment;
use crate::{presence, pua, sys};

fn letters(count: usize) -> &'static [u8] {
    Box::leak(vec![b'a'; count].into_boxed_slice())
}

#[test]
fn defaults_are_read_back() {
    for table in [presence::config::PARAMETERS, pua::config::PARAMETERS] {
        let block = ParameterBlock::new(table);
        for (at, entry) in table.iter().enumerate() {
            assert_eq!(block.value(at), entry.default, "{:?}", entry.name);
            assert!(entry.allows(entry.default), "{:?}", entry.name);
        }
    }
}

/// Values next to the ends of a range, and texts that no parameter takes.
fn outside(entry: &Parameter) -> Vec<ParameterValue> {
    let numbers = match entry.range {
        Allowed::AtLeast(least) => vec![least - 1],
        Allowed::Between(least, most) => vec![least - 1, most + 1],
        Allowed::ZeroOrBetween(least, most) => vec![-1, least - 1, most + 1],
        Allowed::OneOf(values) => {
            let numbers = values.iter().map(|(number, _)| *number);
            vec![numbers.clone().min().unwrap() - 1, numbers.max().unwrap() + 1]
        }
        Allowed::Switch(_) => vec![-1, 2],
        _ => Vec::new(),
    };
    let mut all: Vec<ParameterValue> = numbers.into_iter().map(ParameterValue::Number).collect();
    if matches!(entry.default, ParameterValue::Text(_)) && !matches!(entry.range, Allowed::Any) {
        all.extend([
            ParameterValue::Text(b"a\nb"),
            ParameterValue::Text(b"a\0"),
            ParameterValue::Text(letters(entry.longest + 1)),
        ]);
    }
    if matches!(entry.range, Allowed::Words(_) | Allowed::Letters(..)) {
        all.push(ParameterValue::Text(b"no; word"));
    }
    all
}

#[test]
fn what_is_outside_of_a_range_is_corrected_aloud_and_refused_where_stock_refuses_it_or_lacks_the_parameter() {
    type Read = dyn Fn(&dyn Fn(usize) -> ParameterValue) -> Result<Vec<String>, BadParameter>;
    let server: &Read = &|given| {
        let (mut config, mut said) = presence::config::Config::read(given, None, b"", b"", 0, Moment::at(0), false)?;
        said.extend(config.settle()?);
        Ok(said)
    };
    let agent: &Read = &|given| pua::config::Config::read(given).map(|(_, said)| said);
    for (table, read) in [(presence::config::PARAMETERS, server), (pua::config::PARAMETERS, agent)] {
        for (at, entry) in table.iter().enumerate() {
            for bad in outside(entry) {
                let given = |place: usize| match (place == at, table[place].name.to_bytes()) {
                    (true, _) => bad,
                    // Where notifier processes have an effect.
                    (false, b"subs_db_mode") => ParameterValue::Number(3),
                    (false, b"publ_cache") => ParameterValue::Number(0),
                    // Where retrieve_order_by has one.
                    (false, b"retrieve_order") => ParameterValue::Number(1),
                    (false, _) => table[place].default,
                };
                match read(&given) {
                    Err(error) => {
                        assert_eq!(error.name, entry.name_text(), "{bad}");
                        assert!(matches!(entry.origin, Origin::Ours(_)) || stock_refuses(entry, bad), "{error}");
                        assert!(!error.allowed.is_empty() && error.value.len() < 120, "{error}");
                    }
                    Ok(said) => {
                        assert!(said.iter().any(|line| line.contains(entry.name_text())), "{} {bad}", error(entry));
                        assert!(!matches!(entry.origin, Origin::Ours(_)), "{}", error(entry));
                    }
                }
            }
        }
    }
}

/// Values with which stock's module does not start, or starts as nobody means it to.
fn stock_refuses(entry: &Parameter, value: ParameterValue) -> bool {
    match (entry.name_text(), value) {
        ("min_expires_action" | "check_remote_contact", _) => true,
        // Stock starts with these, and keeps state elsewhere or shorter than is meant.
        ("subs_db_mode" | "publ_cache" | "min_expires" | "dmq_peer_id", _) => true,
        (name, ParameterValue::Text(_)) if name.ends_with("_table") => true,
        ("update_period", ParameterValue::Number(number)) => number < 6,
        _ => false,
    }
}

fn error(entry: &Parameter) -> String {
    format!("{}: nothing is said", entry.name_text())
}

#[test]
fn a_number_that_the_host_writes_is_read() {
    let block = ParameterBlock::new(presence::config::PARAMETERS);
    let at = presence::config::PARAMETERS.iter().position(|entry| entry.name == c"max_expires").unwrap();
    // SAFETY: the table that the host reads has an entry for each parameter.
    let number = unsafe { (*block.exports().wrapping_add(at)).param_pointer };
    // SAFETY: what the host does with an entry of PARAM_INT.
    unsafe { number.cast::<std::ffi::c_int>().write(77) };
    assert_eq!(block.value(at), ParameterValue::Number(77));
}

#[test]
fn the_default_database_is_the_hosts() {
    let block = ParameterBlock::new(pua::config::PARAMETERS);
    assert_eq!(block.text(c"db_url"), sys::DEFAULT_DB_URL.strip_suffix(b"\0").unwrap());
}

#[test]
fn a_text_is_as_long_as_its_kind_may_be() {
    use crate::reference::parameter::{LONGEST_LIST, LONGEST_TEXT, LONGEST_URL};
    let kinds = [(c"db_url", LONGEST_URL), (c"cluster_peers", LONGEST_LIST), (c"cluster_secret", LONGEST_LIST)];
    let (mut texts, mut numbers) = (0, 0);
    for entry in presence::config::PARAMETERS.iter().chain(pua::config::PARAMETERS) {
        if !matches!(entry.default, ParameterValue::Text(_)) {
            numbers += 1;
            continue;
        }
        texts += 1;
        assert!([LONGEST_TEXT, LONGEST_URL, LONGEST_LIST].contains(&entry.longest), "{:?}", entry.name);
        if let Some((_, longest)) = kinds.iter().find(|(name, _)| *name == entry.name) {
            assert_eq!(entry.longest, *longest, "{:?}", entry.name);
        }
        if matches!(entry.range, Allowed::Any) {
            assert!(entry.allows(ParameterValue::Text(letters(entry.longest))), "{:?}", entry.name);
        }
    }
    assert!(texts > 10 && numbers > 10);
}
