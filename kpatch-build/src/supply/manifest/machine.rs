//! Toolchains on the machine that runs this program. Manifests are written for x86-64 machines: a kernel of x86-64 is made
//! by the plain compiler there, and one of another architecture by a cross compiler.

use super::Toolchain;
use crate::kernel::Arch;

const X86_GCC: [(&str, &str, &str); 2] = [
    ("gcc", "x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu"),
    ("ld", "x86_64-linux-gnu-ld", "binutils-x86-64-linux-gnu"),
];

impl Toolchain {
    /// The same toolchain for kernels of `arch`, as it is to be called and installed on a machine of `own`.
    pub(super) fn on(mut self, own: Option<Arch>, arch: Arch) -> Toolchain {
        if own == Some(Arch::X86_64) {
            return self;
        }
        if own == Some(arch) {
            // Debian's native package of the compiler has the long name, too, and there is no cross compiler.
            let cross = format!("gcc-{}", arch.triplet());
            for package in self.programs.values_mut().filter(|package| **package == cross) {
                "gcc".clone_into(package);
            }
        }
        if arch == Arch::X86_64 {
            self.be_cross();
        }
        self
    }

    /// A compiler of clang's makes code for every architecture, and kbuild tells it which (scripts/Makefile.clang).
    fn be_cross(&mut self) {
        self.make_variables.push("ARCH=x86_64".to_owned());
        for (plain, cross, package) in X86_GCC {
            if self.programs.remove(plain).is_some() {
                self.programs.insert(cross.to_owned(), package.to_owned());
            }
            for program in self.identity.iter_mut().filter(|program| *program == plain) {
                cross.clone_into(program);
            }
        }
        if self.programs.contains_key(X86_GCC[0].1) {
            self.make_variables.push("CROSS_COMPILE=x86_64-linux-gnu-".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn toolchain(text: &str, own: Arch, arch: Arch) -> (String, String, String) {
        let toolchain: Toolchain = yaml::parse(text).unwrap();
        let toolchain = toolchain.on(Some(own), arch);
        let programs = toolchain.programs.iter();
        let programs: Vec<String> = programs.map(|(name, package)| format!("{name}={package}")).collect();
        (
            toolchain.make_variables.join(" "),
            programs.join(" "),
            toolchain.identity.join(" "),
        )
    }

    const PLAIN: &str = "make_variables: []\nprograms: { gcc: gcc, ld: binutils }\nidentity: [gcc, ld]\n";
    const CROSS: &str = "make_variables: [ARCH=s390, CROSS_COMPILE=s390x-linux-gnu-]\n\
                         programs: { s390x-linux-gnu-gcc: gcc-s390x-linux-gnu }\nidentity: [s390x-linux-gnu-gcc]\n";
    const CLANG: &str = "make_variables: [LLVM=-19]\nprograms: { clang-19: clang-19 }\nidentity: [clang-19]\n";

    #[test]
    fn on_x86_64_a_toolchain_is_what_the_manifest_says() {
        let said = ("".into(), "gcc=gcc ld=binutils".into(), "gcc ld".into());
        assert_eq!(toolchain(PLAIN, Arch::X86_64, Arch::X86_64), said);
        assert_eq!(
            toolchain(CROSS, Arch::X86_64, Arch::S390x).1,
            "s390x-linux-gnu-gcc=gcc-s390x-linux-gnu"
        );
    }

    #[test]
    fn elsewhere_a_kernel_of_x86_64_is_named_and_cross_compiled() {
        let cross = (
            "ARCH=x86_64 CROSS_COMPILE=x86_64-linux-gnu-".into(),
            "x86_64-linux-gnu-gcc=gcc-x86-64-linux-gnu x86_64-linux-gnu-ld=binutils-x86-64-linux-gnu".into(),
            "x86_64-linux-gnu-gcc x86_64-linux-gnu-ld".into(),
        );
        assert_eq!(toolchain(PLAIN, Arch::Arm64, Arch::X86_64), cross);
        let clang = (
            "LLVM=-19 ARCH=x86_64".into(),
            "clang-19=clang-19".into(),
            "clang-19".into(),
        );
        assert_eq!(toolchain(CLANG, Arch::Ppc64le, Arch::X86_64), clang);
    }

    #[test]
    fn a_machines_own_compiler_is_in_the_native_package() {
        assert_eq!(toolchain(CROSS, Arch::S390x, Arch::S390x).1, "s390x-linux-gnu-gcc=gcc");
        assert_eq!(
            toolchain(CROSS, Arch::Arm64, Arch::S390x).1,
            "s390x-linux-gnu-gcc=gcc-s390x-linux-gnu"
        );
    }
}
