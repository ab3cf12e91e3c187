//! From module parameters to the settings of the user agent; what makes no sense stops start-up with one clear line.
use crate::host::params::ParameterBlock;
use crate::log;
use crate::pua::config::Config;
use crate::reference::reading::BadParameter;

/// Reads and checks the parameters.
///
/// # Errors
/// A parameter has a value that it cannot have.
pub fn read(params: &ParameterBlock) -> Result<Config, BadParameter> {
    let (config, warnings) = Config::read(&|at| params.value(at))?;
    for warning in warnings {
        log!(Warn, "{warning}");
    }
    Ok(config)
}
