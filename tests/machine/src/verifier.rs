//! Options of the machine's verifier, by the names of Driver Verifier's. All are on by default.
use std::str::FromStr;

use anyhow::bail;

use crate::rule::Check;

/// Processor time of one DPC in microseconds, unless another is asked for: ten times what the guidelines say.
pub const DPC_BUDGET: u64 = 1_000;

macro_rules! options {
    ($($field:ident: $option:ident, $name:literal, $doc:literal;)*) => {
        /// See the module's description.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Verifier {
            $(#[doc = $doc] pub $field: bool,)*
            /// NDIS tracks lists and stops for those that are out at detach, as newer versions of Windows do.
            pub list_tracking: bool,
            /// Processor time of one DPC, in microseconds.
            pub dpc_budget: u64,
        }

        impl Default for Verifier {
            fn default() -> Self {
                Self { $($field: true,)* list_tracking: true, dpc_budget: DPC_BUDGET }
            }
        }

        impl Check {
            /// The option's name, as [`Verifier::without`] takes it; `always` and `kernel` cannot be switched off.
            pub fn name(self) -> &'static str {
                match self {
                    Self::Always => "always",
                    Self::Kernel => "kernel",
                    $(Self::$option => $name,)*
                }
            }
        }

        impl Verifier {
            /// Names of the options.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// Whether rules of an option are enforced.
            pub fn enforces(&self, option: Check) -> bool {
                match option {
                    Check::Always | Check::Kernel => true,
                    $(Check::$option => self.$field,)*
                }
            }

            /// Options of a command line that say what is not as by default, each with a space in front.
            pub fn arguments(&self) -> String {
                let mut off = Vec::new();
                $(if !self.$field { off.push($name); })*
                if !self.list_tracking {
                    off.push("list-tracking");
                }
                let mut text = String::new();
                if !off.is_empty() {
                    text = format!(" --without {}", off.join(","));
                }
                if self.dpc_budget != DPC_BUDGET {
                    text += &format!(" --dpc-budget {}", self.dpc_budget);
                }
                text
            }

            /// Switches an option off by its name.
            pub fn without(mut self, option: &str) -> anyhow::Result<Self> {
                match option {
                    $($name => self.$field = false,)*
                    "list-tracking" => self.list_tracking = false,
                    other => bail!("\"{other}\" is no option; there are: {}, list-tracking", Self::NAMES.join(", ")),
                }
                Ok(self)
            }
        }
    };
}

options! {
    special_pool: SpecialPool, "special-pool", "Every block on pages of its own, between inaccessible ones.";
    force_irql: ForceIrql, "force-irql", "Paged memory is inaccessible at `DISPATCH_LEVEL` and above.";
    pool_tracking: PoolTracking, "pool-tracking", "What a driver leaves behind at unload.";
    io: IoVerification, "io", "I/O verification.";
    deadlock: DeadlockDetection, "deadlock", "Deadlock detection.";
    dma: DmaChecking, "dma", "DMA checking.";
    security: Security, "security", "Security checks.";
    misc: Misc, "misc", "Miscellaneous checks.";
    ddi: DdiCompliance, "ddi", "DDI compliance checking.";
    ndis: NdisVerification, "ndis", "NDIS/WIFI verification.";
    code_integrity: CodeIntegrity, "code-integrity", "Code integrity checking.";
    contract: Contract, "contract", "Rules of the contract whose breach has no documented bugcheck.";
}

impl Verifier {
    /// As Windows is without Driver Verifier, and without the machine's own rules.
    pub fn off() -> Self {
        Self::NAMES.iter().fold(Self { list_tracking: false, ..Self::default() }, |options, name| {
            options.without(name).unwrap_or_default()
        })
    }
}

impl FromStr for Verifier {
    type Err = anyhow::Error;

    /// A list of options that are off, such as `special-pool,ddi`; `all` for all.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "all" {
            return Ok(Self::off());
        }
        text.split(',').filter(|name| !name.is_empty()).try_fold(Self::default(), Self::without)
    }
}
