//! The order in which images are loaded that import from each other.
//!
//! `MmLoadSystemImage` as the second half of `seeds/002` logs it: an image is entered into the list of loaded modules
//! first, and then the images that it imports from are loaded, each with its own imports; only after all of them are
//! its own sections made resident. An image that is loaded as an import has its `DllInitialize` called as soon as it is
//! resident itself. Of two images that import from each other, the one that comes second finds the first in the list
//! and takes its exports, though the first is not resident yet: what it calls there is paged in below
//! `DISPATCH_LEVEL`, and stops the system at it.
use std::path::Path;
use std::rc::Rc;

use anyhow::{Result, ensure};

use crate::image::Image;
use crate::kernel::{self, objects};
use crate::machine::{Driver, Machine};
use crate::system;

impl Machine {
    /// Loads an image and what it imports from, on a thread of the machine.
    pub(crate) fn load_image(&self, path: &Path, service: &str, depth: usize) -> Result<(Rc<Image>, u64)> {
        let log = |what: &str, name: &str| {
            let line = format!("{:indent$}{what}: {name}", "", indent = depth * 4);
            self.loader_log.borrow_mut().push(line);
        };
        let number = self.drivers.borrow().len();
        let image = Rc::new(Image::map(path, number)?);
        log("MmLoadSystemImageEx", &image.name);
        let object = objects::driver_object(&image);
        self.drivers.borrow_mut().push(Driver {
            image: image.clone(),
            object,
            service: service.to_owned(),
            initialised: false,
            unloaded: false,
            library: depth != 0,
        });
        log("MiConstructLoaderEntry", &image.name);
        if let Err(error) = self.resolve_imports(&image, path, depth, &log) {
            self.forget(&image);
            return Err(error);
        }
        log("MiHandleDriverNonPagedSections", &image.name);
        self.memory.forget_late(image.base);
        image.settle();
        log("MiDriverLoadSucceeded", &image.name);
        if depth != 0
            && let Some(initialize) = image.export("DllInitialize")
        {
            log("MmCallDllInitialize", &image.name);
            let path = self.registry_path(&image.name);
            self.call(initialize, &[path]);
            kernel::after_callback(self, "DllInitialize", 0);
        }
        Ok((image, object))
    }

    /// Loads what an image imports from, and fills its import table.
    fn resolve_imports(
        &self,
        image: &Rc<Image>,
        path: &Path,
        depth: usize,
        log: &dyn Fn(&str, &str),
    ) -> Result<()> {
        log("MiResolveImageImports", &image.name);
        let beside =
            |module: &str| path.parent().map(|folder| folder.join(module)).filter(|file| file.exists());
        let modules = image.modules()?;
        if modules.iter().any(|module| !kernel::has_module(module)) {
            // From here on others may find it in the list, while none of its sections is resident.
            self.memory.add_late(image);
        }
        // Missing imports are told all at once.
        let mut missing = Vec::new();
        let build = self.build();
        for module in modules {
            if !kernel::has_module(&module)
                && self.loaded(&module).is_none()
                && let Some(file) = beside(&module)
            {
                log("MiLoadImportDll", &module);
                self.load_image(&file, &module, depth + 1)?;
            }
            self.memory.open_late(image.base);
            let resolve = |module: &str, name: &str| {
                let system = kernel::resolve(module, name).filter(|_| system::exports(build, name));
                system.or_else(|| self.loaded(module)?.export(name))
            };
            let bound = image.bind(&module, &resolve);
            self.memory.close_late(image.base);
            missing.extend(bound?.iter().map(|import| system::missing(build, import)));
        }
        // STATUS_DRIVER_ENTRYPOINT_NOT_FOUND.
        ensure!(
            missing.is_empty(),
            "cannot load {}: this system, build {build}, has no {} (0xC0000263)",
            image.path.display(),
            missing.join(", ")
        );
        Ok(())
    }

    /// A loaded image, by its name.
    fn loaded(&self, module: &str) -> Option<Rc<Image>> {
        let drivers = self.drivers.borrow();
        let found =
            drivers.iter().find(|driver| !driver.unloaded && driver.image.name.eq_ignore_ascii_case(module));
        found.map(|driver| driver.image.clone())
    }

    /// An image that did not load, and those that were loaded for it.
    fn forget(&self, image: &Rc<Image>) {
        self.memory.forget_late(image.base);
        for driver in self.drivers.borrow_mut().iter_mut() {
            if Rc::ptr_eq(&driver.image, image) {
                driver.unloaded = true;
            }
        }
        image.unload();
    }

    /// Unloads libraries that no loaded driver is there for any more.
    pub(crate) fn unload_libraries(&self) {
        let mut drivers = self.drivers.borrow_mut();
        if drivers.iter().any(|driver| !driver.library && !driver.unloaded) {
            return;
        }
        for driver in drivers.iter_mut().filter(|driver| driver.library && !driver.unloaded) {
            driver.image.unload();
            driver.unloaded = true;
        }
    }

    /// The registry path of a service, as `DriverEntry` and `DllInitialize` are given it.
    pub(crate) fn registry_path(&self, service: &str) -> u64 {
        self.unicode_string(&format!("\\REGISTRY\\MACHINE\\SYSTEM\\ControlSet001\\Services\\{service}"))
    }

    /// The steps of the loader so far, indented by what was loaded for what.
    pub fn loader_log(&self) -> Vec<String> {
        self.loader_log.borrow().clone()
    }
}
