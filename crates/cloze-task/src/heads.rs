//! Heads of a task, on the encoder's output: what `BertForSequenceClassification` and `BertForTokenClassification` of transformers compute.
//!
//! They run on the host by candle, whose autograd has their gradients; their parameters lie in the engine's arena with all others.

use candle_core::{D, Device, Tensor, Var};
use cloze_train::BertConfig;
use cloze_train::engine::{Dropout, Engine};
use cloze_train::parameters::{Layout, Parameter};
use cloze_train::reference::head_mask;
use serde_json::Value;

use crate::data::{Target, Task, TaskKind};
use crate::{Error, Result, Row};

/// Name of the output layer's weight.
pub const CLASSIFIER: &str = "classifier.weight";
const CLASSIFIER_BIAS: &str = "classifier.bias";
const POOLER: [&str; 2] = ["bert.pooler.dense.weight", "bert.pooler.dense.bias"];

/// The head of a task.
#[derive(Clone, Debug)]
pub struct Head {
    kind: TaskKind,
    hidden: usize,
    outputs: usize,
    /// Probability of dropping a feature of what the output layer is given.
    dropout: f64,
    /// In the order in which they are used.
    parameters: Vec<Parameter>,
}

/// What is right for the places that a head looks at.
#[derive(Clone, Debug, PartialEq)]
pub enum Goals {
    /// The class at each place; the loss is the mean cross-entropy.
    Classes(Vec<u32>),
    /// The number at each place; the loss is the mean squared error.
    Numbers(Vec<f32>),
    /// `[places, labels]`, 1 for the labels that a place has, else 0; the loss is the mean binary cross-entropy.
    Sets(Vec<u32>),
}

/// What a training pass of a head gives.
#[derive(Clone, Debug)]
pub struct HeadPass {
    /// The loss.
    pub loss: f64,
    /// Its gradient by what the head was given, `[places, H]`.
    pub input: Vec<f32>,
    /// Its gradient by each parameter.
    pub parameters: Vec<(Parameter, Vec<f32>)>,
}

impl Head {
    /// The parameters that the layout of pre-training does not have, by name and shape.
    #[must_use]
    pub fn shapes(task: &Task, hidden: usize) -> Vec<(String, Vec<usize>)> {
        vec![
            (CLASSIFIER.into(), vec![task.outputs(), hidden]),
            (CLASSIFIER_BIAS.into(), vec![task.outputs()]),
        ]
    }

    /// The head of `task`. `dropout` stands in for the model's own (`classifier_dropout`, else `hidden_dropout_prob`).
    pub fn new(
        task: &Task,
        config: &BertConfig,
        layout: &Layout,
        dropout: Option<f64>,
    ) -> Result<Self> {
        let pooled = task.kind != TaskKind::TokenClassification;
        let names = POOLER.into_iter().filter(|_| pooled);
        let parameters = names.chain([CLASSIFIER, CLASSIFIER_BIAS]).map(|name| {
            layout.find(name).cloned().ok_or_else(|| Error::Option {
                option: "the model",
                why: format!("has no {name}"),
            })
        });
        let own = match config.raw.get("classifier_dropout") {
            None | Some(Value::Null) => config.hidden_dropout_prob,
            Some(p) => {
                let good = p.as_f64().filter(|p| (0.0..1.0).contains(p));
                good.ok_or_else(|| Error::Option {
                    option: "classifier_dropout",
                    why: format!("in config.json is {p}, must be from 0 to under 1"),
                })?
            }
        };
        Ok(Self {
            kind: task.kind,
            hidden: config.hidden_size,
            outputs: task.outputs(),
            dropout: dropout.unwrap_or(own),
            parameters: parameters.collect::<Result<_>>()?,
        })
    }

    /// The tokens of a batch of `rows` that the head looks at: `[CLS]`, or the first piece of each word.
    #[must_use]
    pub fn places(&self, rows: &[&Row]) -> Vec<usize> {
        let (mut places, mut start) = (Vec::new(), 0);
        for row in rows {
            match self.kind {
                TaskKind::TokenClassification => {
                    places.extend(row.words.iter().flatten().map(|place| start + place));
                }
                _ => places.push(start),
            }
            start += row.input_ids.len();
        }
        places
    }

    /// What is right at these places: as [`places`](Self::places), of rows and their targets.
    #[must_use]
    pub fn goals<'t>(&self, rows: impl IntoIterator<Item = (&'t Row, &'t Target)>) -> Goals {
        let mut goals = match self.kind {
            TaskKind::Regression => Goals::Numbers(Vec::new()),
            TaskKind::MultiLabel => Goals::Sets(Vec::new()),
            _ => Goals::Classes(Vec::new()),
        };
        for (row, target) in rows {
            match (&mut goals, target) {
                (Goals::Classes(all), Target::Class(id)) => all.push(*id),
                (Goals::Classes(all), Target::Tags(ids)) => {
                    all.extend(
                        row.words
                            .iter()
                            .zip(ids)
                            .filter_map(|(w, id)| w.map(|_| *id)),
                    );
                }
                (Goals::Numbers(all), Target::Number(x)) => all.push(*x as f32),
                (Goals::Sets(all), Target::Set(ids)) => {
                    let start = all.len();
                    all.resize(start + self.outputs, 0);
                    ids.iter().for_each(|&id| all[start + id as usize] = 1);
                }
                // The targets of a task are of its kind.
                _ => unreachable!("a target of another task"),
            }
        }
        goals
    }

    /// Its parameters as they are, in their order.
    pub fn values(&self, engine: &mut dyn Engine) -> Result<Vec<Vec<f32>>> {
        let each = self.parameters.iter().map(|p| Ok(engine.parameter(p)?));
        each.collect()
    }

    /// What the head gives at `n` places whose encodings are `x: [n, H]`: `[n, outputs]`. `values` are those of its [`parameters`](Self::values).
    pub fn logits(&self, values: &[Vec<f32>], x: &[f32]) -> Result<Vec<f32>> {
        let n = x.len() / self.hidden;
        if n == 0 {
            return Ok(Vec::new());
        }
        let parameters = (self.parameters.iter().zip(values)).map(|(p, v)| tensor(v, &p.shape));
        let parameters = parameters.collect::<Result<Vec<_>>>()?;
        let logits = self.forward(&tensor(x, &[n, self.hidden])?, &parameters, None)?;
        Ok(logits.flatten_all()?.to_vec1()?)
    }

    /// The loss at places whose encodings are `x: [n, H]`, n > 0, and its gradients.
    pub fn train(
        &self,
        values: &[Vec<f32>],
        x: &[f32],
        goals: &Goals,
        dropout: Option<&Dropout>,
    ) -> Result<HeadPass> {
        let n = x.len() / self.hidden;
        let input = Var::from_tensor(&tensor(x, &[n, self.hidden])?)?;
        let variables = (self.parameters.iter().zip(values))
            .map(|(p, v)| Ok(Var::from_tensor(&tensor(v, &p.shape)?)?))
            .collect::<Result<Vec<_>>>()?;
        let parameters: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
        let mask = match dropout {
            Some(dropout) if self.dropout > 0.0 => {
                let mask = head_mask(dropout, self.dropout, n, self.hidden);
                Some(tensor(&mask, &[n, self.hidden])?)
            }
            _ => None,
        };
        let logits = self.forward(input.as_tensor(), &parameters, mask.as_ref())?;
        let loss = loss(&logits, goals)?;
        let gradients = loss.backward()?;
        let gradient = |variable: &Var| -> Result<Vec<f32>> {
            Ok(match gradients.get(variable) {
                Some(gradient) => gradient.flatten_all()?.to_vec1()?,
                None => vec![0.0; variable.elem_count()],
            })
        };
        let parameters = self.parameters.iter().zip(&variables);
        Ok(HeadPass {
            loss: f64::from(loss.to_scalar::<f32>()?),
            input: gradient(&input)?,
            parameters: parameters
                .map(|(p, v)| Ok((p.clone(), gradient(v)?)))
                .collect::<Result<_>>()?,
        })
    }

    /// Pooler, where there is one; dropout; output layer.
    fn forward(&self, x: &Tensor, parameters: &[Tensor], mask: Option<&Tensor>) -> Result<Tensor> {
        let linear = |x: &Tensor, at: usize| -> Result<Tensor> {
            Ok(x.matmul(&parameters[at].t()?)?
                .broadcast_add(&parameters[at + 1])?)
        };
        let mut x = x.clone();
        if self.kind != TaskKind::TokenClassification {
            x = linear(&x, 0)?.tanh()?;
        }
        if let Some(mask) = mask {
            x = (x * mask)?;
        }
        linear(&x, parameters.len() - 2)
    }
}

fn tensor(values: &[f32], shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_slice(values, shape, &Device::Cpu)?)
}

/// The mean loss of `logits: [n, outputs]`.
fn loss(logits: &Tensor, goals: &Goals) -> Result<Tensor> {
    let (n, outputs) = logits.dims2()?;
    let cross_entropy = |logits: &Tensor, classes: &[u32]| -> Result<Tensor> {
        let log_p = candle_nn::ops::log_softmax(logits, D::Minus1)?;
        let classes = Tensor::from_slice(classes, (classes.len(), 1), &Device::Cpu)?;
        Ok(log_p.gather(&classes, 1)?.mean_all()?.neg()?)
    };
    match goals {
        Goals::Classes(classes) => cross_entropy(logits, classes),
        Goals::Numbers(numbers) => Ok((logits.flatten_all()? - tensor(numbers, &[n])?)?
            .sqr()?
            .mean_all()?),
        // log σ(x) and log σ(−x) are the log-softmax of (0, x).
        Goals::Sets(members) => {
            let x = logits.reshape((n * outputs, 1))?;
            cross_entropy(&Tensor::cat(&[&x.zeros_like()?, &x], 1)?, members)
        }
    }
}

/// The sum of the losses of `logits`, and how many terms it has; by the formulas, in double precision.
#[must_use]
pub fn loss_sum(logits: &[f32], goals: &Goals) -> (f64, usize) {
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    match goals {
        Goals::Classes(classes) => {
            let outputs = logits.len() / classes.len().max(1);
            let each = logits
                .chunks(outputs.max(1))
                .zip(classes)
                .map(|(row, &class)| {
                    let most = row.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x.into()));
                    let sum: f64 = row.iter().map(|&x| (f64::from(x) - most).exp()).sum();
                    most + sum.ln() - f64::from(row[class as usize])
                });
            (each.sum(), classes.len())
        }
        Goals::Numbers(numbers) => {
            let each = logits.iter().zip(numbers);
            let each = each.map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2));
            (each.sum(), numbers.len())
        }
        Goals::Sets(members) => {
            let each = logits.iter().zip(members);
            let each = each.map(|(&x, &y)| softplus(f64::from(x)) - f64::from(x) * f64::from(y));
            (each.sum(), members.len())
        }
    }
}

#[cfg(test)]
mod tests;
