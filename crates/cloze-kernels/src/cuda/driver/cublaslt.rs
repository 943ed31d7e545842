//! The functions of cuBLASLt, looked up once in the library that was chosen for the driver.

use std::ffi::{c_int, c_void};

use cudarc::cublaslt::sys;

use crate::cuda::libraries;
use crate::{Error, Result};

macro_rules! functions {
    ($($field:ident = $name:ident($($argument:ty),*);)*) => {
        /// cuBLASLt.
        #[derive(Clone, Copy, Debug)]
        pub struct CublasLt {
            $(pub $field: unsafe extern "C" fn($($argument),*) -> sys::cublasStatus_t,)*
        }

        impl CublasLt {
            /// Loads the library that a driver for CUDA `major` runs, and finds them.
            pub fn load(major: u32) -> Result<Self> {
                let library = libraries::load("cublasLt", None, Some(major))?;
                Ok(Self {
                    $(
                        // SAFETY: each is declared as in cuBLASLt's header, the same in CUDA 12 and 13, and the library stays loaded.
                        $field: *unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }
                            .map_err(|e| Error::Cuda {
                                call: stringify!($name).into(),
                                why: e.to_string(),
                            })?,
                    )*
                })
            }
        }
    };
}

functions! {
    create = cublasLtCreate(*mut sys::cublasLtHandle_t);
    destroy = cublasLtDestroy(sys::cublasLtHandle_t);
    layout_create = cublasLtMatrixLayoutCreate(*mut sys::cublasLtMatrixLayout_t, sys::cudaDataType, u64, u64, i64);
    layout_destroy = cublasLtMatrixLayoutDestroy(sys::cublasLtMatrixLayout_t);
    operation_create = cublasLtMatmulDescCreate(*mut sys::cublasLtMatmulDesc_t, sys::cublasComputeType_t, sys::cudaDataType);
    operation_set = cublasLtMatmulDescSetAttribute(sys::cublasLtMatmulDesc_t, sys::cublasLtMatmulDescAttributes_t, *const c_void, usize);
    operation_destroy = cublasLtMatmulDescDestroy(sys::cublasLtMatmulDesc_t);
    preference_create = cublasLtMatmulPreferenceCreate(*mut sys::cublasLtMatmulPreference_t);
    preference_set = cublasLtMatmulPreferenceSetAttribute(sys::cublasLtMatmulPreference_t, sys::cublasLtMatmulPreferenceAttributes_t, *const c_void, usize);
    preference_destroy = cublasLtMatmulPreferenceDestroy(sys::cublasLtMatmulPreference_t);
    heuristic = cublasLtMatmulAlgoGetHeuristic(
        sys::cublasLtHandle_t,
        sys::cublasLtMatmulDesc_t,
        sys::cublasLtMatrixLayout_t,
        sys::cublasLtMatrixLayout_t,
        sys::cublasLtMatrixLayout_t,
        sys::cublasLtMatrixLayout_t,
        sys::cublasLtMatmulPreference_t,
        c_int,
        *mut sys::cublasLtMatmulHeuristicResult_t,
        *mut c_int
    );
    matmul = cublasLtMatmul(
        sys::cublasLtHandle_t,
        sys::cublasLtMatmulDesc_t,
        *const c_void,
        *const c_void,
        sys::cublasLtMatrixLayout_t,
        *const c_void,
        sys::cublasLtMatrixLayout_t,
        *const c_void,
        *const c_void,
        sys::cublasLtMatrixLayout_t,
        *mut c_void,
        sys::cublasLtMatrixLayout_t,
        *const sys::cublasLtMatmulAlgo_t,
        *mut c_void,
        usize,
        sys::cudaStream_t
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where there is cuBLASLt (CLOZE_CUDA_PATH may name its folder), it has every function.
    #[test]
    fn every_function_is_there() {
        match CublasLt::load(13) {
            Err(e @ Error::NoLibrary { .. }) => eprintln!("NOT TESTED: {e}"),
            loaded => drop(loaded.unwrap()),
        }
    }
}
