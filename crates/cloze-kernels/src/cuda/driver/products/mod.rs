//! Products by cuBLASLt, each shape by the algorithm that was fastest when it was first met.
//!
//! An algorithm decides in which order terms are summed. It is remembered for as long as the process runs, so that equal inputs give equal
//! results within a process; between processes the clock may choose otherwise, unless [`FIRST`] says not to look at it.

mod fastest;

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::cublaslt::result::CublasError;
use cudarc::cublaslt::sys;
use cudarc::driver;

use super::cublaslt::CublasLt;
use super::failed;
use crate::cuda::machine::{Address, Factor, Format, Product};
use crate::{Error, Result};

/// A variable of the environment: `heuristic` takes the first algorithm that the library offers.
pub const FIRST: &str = "CLOZE_CUBLASLT";
/// Algorithms that are tried.
const TRIED: usize = 16;

fn refused(call: &'static str) -> impl FnOnce(CublasError) -> Error {
    move |e| Error::Cuda {
        call: call.to_owned(),
        why: e.to_string(),
    }
}

/// What an algorithm depends on: everything but where matrices lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    m: usize,
    n: usize,
    k: usize,
    a: (usize, bool),
    b: (usize, bool),
    single: bool,
    accumulate: bool,
    bias: bool,
    /// Of all addresses, at most 256.
    alignment: u32,
}

impl Shape {
    fn of(p: &Product) -> Self {
        let places = [p.a.at, p.b.at, p.c, p.bias.unwrap_or(0), 256];
        let zeros = places.iter().fold(0, |all, at| all | at).trailing_zeros();
        Self {
            m: p.m,
            n: p.n,
            k: p.k,
            a: (p.a.stride, p.a.transposed),
            b: (p.b.stride, p.b.transposed),
            single: p.single,
            accumulate: p.accumulate,
            bias: p.bias.is_some(),
            alignment: 1 << zeros.min(8),
        }
    }
}

/// How a shape is multiplied. What is null was not made yet.
#[derive(Debug)]
struct Plan {
    lt: CublasLt,
    operation: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    c: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
    /// Which of how many, and its milliseconds where it was timed.
    chosen: (usize, usize, Option<f64>),
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: each that is not null was created for the plan, and is destroyed once.
        unsafe {
            if !self.operation.is_null() {
                let _ = (self.lt.operation_destroy)(self.operation);
            }
            for layout in [self.a, self.b, self.c] {
                if !layout.is_null() {
                    let _ = (self.lt.layout_destroy)(layout);
                }
            }
        }
    }
}

/// The library, its workspace, and what was chosen.
#[derive(Debug)]
pub struct Products {
    lt: CublasLt,
    handle: sys::cublasLtHandle_t,
    format: Format,
    workspace: (Address, usize),
    plans: BTreeMap<Shape, Plan>,
    first: bool,
}

impl Products {
    /// For the current context, a device of compute capability `major`, with the library that a driver for CUDA `driver_major` runs.
    pub fn new(format: Format, major: i32, driver_major: u32) -> Result<Self> {
        let lt = CublasLt::load(driver_major)?;
        let mut handle = null_mut();
        // SAFETY: a place for one handle.
        let made = unsafe { (lt.create)(&mut handle) };
        made.result().map_err(refused("cublasLtCreate"))?;
        let bytes = if major >= 9 { 64 << 20 } else { 32 << 20 };
        // SAFETY: a workspace need not be set.
        let at = unsafe { driver::result::malloc_sync(bytes) }.map_err(failed("cuMemAlloc"))?;
        Ok(Self {
            lt,
            handle,
            format,
            workspace: (at, bytes),
            plans: BTreeMap::new(),
            first: std::env::var_os(FIRST).is_some_and(|v| v == "heuristic"),
        })
    }

    pub fn algorithms(&self) -> Vec<String> {
        let line = |(s, p): (&Shape, &Plan)| {
            let (which, of, ms) = p.chosen;
            let transposed = |t: bool| if t { "ᵀ" } else { "" };
            let speed = ms.map_or("not timed".to_owned(), |ms| {
                let rate = 2.0 * (s.m * s.n * s.k) as f64 / ms / 1e9;
                format!("{:.1} µs, {rate:.0} TFLOP/s", ms * 1e3)
            });
            format!(
                "{} × {} × {} (A{}, B{}{}{}): {which} of {of}, {speed}",
                s.m,
                s.n,
                s.k,
                transposed(s.a.1),
                transposed(s.b.1),
                if s.bias { ", bias" } else { "" },
                if s.accumulate { ", added" } else { "" },
            )
        };
        self.plans.iter().map(line).collect()
    }

    /// Chooses how products like this one are multiplied, where that is not done; by trying algorithms out, where that is allowed.
    pub fn prepare(
        &mut self,
        p: &Product,
        stream: driver::sys::CUstream,
        may_time: bool,
    ) -> Result<Shape> {
        let shape = Shape::of(p);
        if !self.plans.contains_key(&shape) {
            let plan = self.plan(p, shape, stream, may_time && !self.first)?;
            self.plans.insert(shape, plan);
        }
        Ok(shape)
    }

    /// Multiplies, as was prepared.
    pub fn run(&self, p: &Product, shape: Shape, stream: driver::sys::CUstream) -> Result<()> {
        let plan = &self.plans[&shape];
        self.multiply(plan, p, p.c, &plan.algorithm, stream)
    }

    fn types(&self, single: bool) -> [sys::cudaDataType; 2] {
        let own = match self.format {
            Format::F32 => sys::cudaDataType_t::CUDA_R_32F,
            Format::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        };
        [
            own,
            if single {
                sys::cudaDataType_t::CUDA_R_32F
            } else {
                own
            },
        ]
    }

    /// cuBLASLt's matrices are column-major: what is row-major here is its transpose there, so Cᵀ = Bᵀ Aᵀ is asked for, our B first.
    fn plan(
        &self,
        p: &Product,
        shape: Shape,
        stream: driver::sys::CUstream,
        may_time: bool,
    ) -> Result<Plan> {
        let [factor, result] = self.types(p.single);
        let layout = |f: Factor, rows: usize, columns: usize| {
            // Row-major `rows × columns` in memory, or the other way round.
            let (high, wide) = if f.transposed {
                (columns, rows)
            } else {
                (rows, columns)
            };
            self.layout(factor, wide, high, f.stride)
        };
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let scale = sys::cudaDataType_t::CUDA_R_32F;
        let mut plan = Plan {
            lt: self.lt,
            operation: null_mut(),
            a: null_mut(),
            b: null_mut(),
            c: null_mut(),
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
            chosen: (0, 0, None),
        };
        // SAFETY: a place for one descriptor.
        unsafe { (self.lt.operation_create)(&mut plan.operation, compute, scale) }
            .result()
            .map_err(refused("cublasLtMatmulDescCreate"))?;
        plan.a = layout(p.b, p.k, p.n)?;
        plan.b = layout(p.a, p.m, p.k)?;
        plan.c = self.layout(result, p.n, p.m, p.n)?;
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        // cublasOperation_t: CUBLAS_OP_N and CUBLAS_OP_T.
        let turn = i32::from;
        set(
            &plan,
            Attribute::CUBLASLT_MATMUL_DESC_TRANSA,
            &turn(p.b.transposed),
        )?;
        set(
            &plan,
            Attribute::CUBLASLT_MATMUL_DESC_TRANSB,
            &turn(p.a.transposed),
        )?;
        if let Some(bias) = p.bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
            set(&plan, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            set(
                &plan,
                Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                &factor,
            )?;
            set(&plan, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        let offered = self.offered(&plan, shape)?;
        let count = offered.len();
        let mut best = (0, None);
        if may_time && count > 1 {
            best = self.fastest(&plan, p, &offered, stream)?;
        }
        plan.algorithm = offered[best.0].algo;
        plan.chosen = (best.0 + 1, count, best.1);
        Ok(plan)
    }

    /// Describes a column-major matrix.
    fn layout(
        &self,
        kind: sys::cudaDataType,
        rows: usize,
        columns: usize,
        stride: usize,
    ) -> Result<sys::cublasLtMatrixLayout_t> {
        let mut layout = null_mut();
        let (rows, columns, stride) = (rows as u64, columns as u64, stride as i64);
        // SAFETY: a place for one descriptor.
        unsafe { (self.lt.layout_create)(&mut layout, kind, rows, columns, stride) }
            .result()
            .map_err(refused("cublasLtMatrixLayoutCreate"))?;
        Ok(layout)
    }

    /// The algorithms that the library offers, what it holds for the best first.
    fn offered(
        &self,
        plan: &Plan,
        shape: Shape,
    ) -> Result<Vec<sys::cublasLtMatmulHeuristicResult_t>> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let mut preference = null_mut();
        // SAFETY: a place for one descriptor.
        unsafe { (self.lt.preference_create)(&mut preference) }
            .result()
            .map_err(refused("cublasLtMatmulPreferenceCreate"))?;
        let mut numbers = vec![(
            Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
            self.workspace.1 as u64,
            8,
        )];
        for which in [
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            numbers.push((which, u64::from(shape.alignment), 4));
        }
        let mut asked = Ok(());
        for (which, number, size) in numbers {
            // SAFETY: the attribute takes a number of that size, of which the low bytes come first.
            let set = unsafe {
                (self.lt.preference_set)(preference, which, (&raw const number).cast(), size)
            };
            asked = asked.and(set.result());
        }
        let none = sys::cublasLtMatmulHeuristicResult_t {
            algo: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
            workspaceSize: 0,
            state: sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED,
            wavesCount: 0.0,
            reserved: [0; 4],
        };
        let mut found = vec![none; TRIED];
        let mut count = 0;
        // SAFETY: there is room for as many results as are asked for, and all descriptors live.
        let status = unsafe {
            (self.lt.heuristic)(
                self.handle,
                plan.operation,
                plan.a,
                plan.b,
                plan.c,
                plan.c,
                preference,
                TRIED as i32,
                found.as_mut_ptr(),
                &mut count,
            )
        };
        // SAFETY: destroyed once.
        let _ = unsafe { (self.lt.preference_destroy)(preference) };
        asked.map_err(refused("cublasLtMatmulPreferenceSetAttribute"))?;
        status
            .result()
            .map_err(refused("cublasLtMatmulAlgoGetHeuristic"))?;
        found.truncate(usize::try_from(count).unwrap_or(0));
        found.retain(|r| r.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS);
        if found.is_empty() {
            return Err(Error::Cuda {
                call: "cublasLtMatmulAlgoGetHeuristic".into(),
                why: format!("no algorithm for {shape:?}"),
            });
        }
        Ok(found)
    }

    fn multiply(
        &self,
        plan: &Plan,
        p: &Product,
        c: Address,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        stream: driver::sys::CUstream,
    ) -> Result<()> {
        if let Some(bias) = p.bias {
            use sys::cublasLtMatmulDescAttributes_t as Attribute;
            set(plan, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        let (alpha, beta) = (1f32, if p.accumulate { 1f32 } else { 0f32 });
        // SAFETY: layouts are those of the product, whose matrices lie in what was allocated; the workspace is used by this stream alone.
        unsafe {
            (self.lt.matmul)(
                self.handle,
                plan.operation,
                (&raw const alpha).cast(),
                p.b.at as *const c_void,
                plan.a,
                p.a.at as *const c_void,
                plan.b,
                (&raw const beta).cast(),
                c as *const c_void,
                plan.c,
                c as *mut c_void,
                plan.c,
                algorithm,
                self.workspace.0 as *mut c_void,
                self.workspace.1,
                stream.cast(),
            )
        }
        .result()
        .map_err(refused("cublasLtMatmul"))
    }

    /// Gives all back.
    ///
    /// # Safety
    /// Nothing may run that multiplies.
    pub unsafe fn free(&mut self) {
        self.plans.clear();
        // SAFETY: the caller's; each is given back once.
        unsafe {
            let _ = (self.lt.destroy)(self.handle);
            let _ = driver::result::free_sync(self.workspace.0);
        }
    }
}

/// Sets what describes a product.
fn set<T>(plan: &Plan, which: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<()> {
    // SAFETY: the descriptor lives, and each caller gives the attribute's own type.
    unsafe {
        (plan.lt.operation_set)(
            plan.operation,
            which,
            std::ptr::from_ref(value).cast(),
            size_of::<T>(),
        )
    }
    .result()
    .map_err(refused("cublasLtMatmulDescSetAttribute"))
}
